"""Baseline: LiteRT-LM, Google's runner, which apps on Android and iOS use.

It opens the same bundle with its own prompt template, image preparation, tokenizer and loop.
"""

from collections.abc import Iterator
from typing import Any

from PIL import Image

from export.artifact import Artifact
from export.errors import UserError
from export.files import short
from export.library_log import kept
from runtimes.base import Event, Request, Session
from runtimes.png import png_text
from runtimes.prepare.request import preparer_of


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Opens a bundle in LiteRT-LM's engine and returns the session; CPU only.

    Raises UserError for a file that it cannot open.
    """
    return EngineSession(artifact, threads)


class EngineSession:
    """Answers requests with LiteRT-LM's engine (Session).

    Events have no arrays, and come when the whole answer is there: the engine gives text.
    """

    def __init__(self, artifact: Artifact, threads: int) -> None:
        import litert_lm

        self._api, self._preparer = litert_lm, preparer_of(artifact)
        path, cpu = artifact.file("decoder"), litert_lm.Backend.CPU(thread_count=threads)
        try:
            with kept(1, 2):
                self._engine = litert_lm.Engine(
                    str(path), cpu, vision_backend=cpu, cache_dir=":nocache"
                )
        except RuntimeError as error:
            raise UserError(f"{path}: LiteRT-LM cannot open it; export it again") from error

    def generate(self, request: Request) -> Iterator[Event]:
        """Answers one request from an empty cache; yields an Event for each step (Session)."""
        if request.answer is not None or request.arrays or request.task or request.ids is not None:
            raise UserError("litert_lm takes questions, chooses its tokens itself, returns text")
        prepared = self._preparer(request)
        yield Event("prepare", len(prepared.ids))
        text = self._answered(request)
        yield Event("prefill", len(prepared.ids))
        yield from (Event("token", token=token) for token in self._preparer.tokens(text))

    def close(self) -> None:
        """Frees the model's memory."""
        with kept(1, 2):
            self._engine.close()

    def _answered(self, request: Request) -> str:
        content: list[dict[str, Any]] = [_image(image) for image in request.images]
        content.append({"type": "text", "text": request.question})
        greedy = self._api.SamplerConfig(top_k=1)
        try:
            with (
                kept(1, 2),
                self._engine.create_conversation(
                    sampler_config=greedy, max_output_tokens=request.max_tokens
                ) as conversation,
            ):
                found = conversation.send_message({"role": "user", "content": content})
        except RuntimeError as error:
            raise UserError(f"LiteRT-LM: {short(str(error), 200)}") from error
        return "".join(part["text"] for part in found["content"])


def _image(image: Image.Image) -> dict[str, str]:
    return {"type": "image", "blob": png_text(image)}
