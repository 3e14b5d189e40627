"""Baseline: ExecuTorch's C++ class MultimodalRunner, which apps on Android and iOS use.

It runs the same program with its own loop, tokenizer and sampling. It only takes prompts whose
images are tiles in place of runs of image tokens.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from export.artifact import Artifact
from export.errors import UserError
from export.files import short
from export.library_log import kept
from export.modeling.vision import ImageVision
from runtimes.base import Event, Request, Session
from runtimes.executorch.program import use_threads
from runtimes.prepare.request import Prepared, preparer_of

TOKENIZER = "tokenizer.json"


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Opens an ExecuTorch artifact in MultimodalRunner and returns the session; CPU only.

    Raises UserError for a model that needs more inputs than the runner has.
    """
    return RunnerSession(artifact, threads)


class RunnerSession:
    """Answers requests with MultimodalRunner (Session).

    Events have no arrays, and come when the whole answer is there: the runner also writes to the
    terminal, which can only be kept from it for the process as a whole.
    """

    def __init__(self, artifact: Artifact, threads: int) -> None:
        from executorch.extension.llm import runner

        self._api, self._preparer = runner, preparer_of(artifact)
        self._image_token_id = artifact.manifest.vlm.image_token_id
        _expect_inputs(artifact)
        use_threads(threads)
        path, tokenizer = str(artifact.file("decoder")), str(artifact.path / TOKENIZER)
        try:
            with kept():
                self._runner = runner.MultimodalRunner(path, tokenizer)
        except RuntimeError as error:
            raise UserError(
                f"{path}: MultimodalRunner cannot open it ({short(str(error), 200)}); export it "
                f"again"
            ) from error

    def generate(self, request: Request) -> Iterator[Event]:
        """Answers one request from an empty cache; yields an Event for each step (Session)."""
        if request.answer is not None or request.arrays or request.task:
            raise UserError("executorch_runner chooses its tokens itself and returns only text")
        prepared = self._preparer(request)
        yield Event("prepare", len(prepared.ids))
        self._runner.reset()
        pieces = self._pieces(self._inputs(prepared), request.max_tokens)
        yield Event("prefill", len(prepared.ids))
        for piece in pieces:
            yield from (Event("token", token=token) for token in self._preparer.tokens(piece))

    def close(self) -> None:
        """Frees the program."""
        del self._runner

    def _inputs(self, prepared: Prepared) -> list[Any]:
        """Returns the runner's inputs: token ids, and tiles where image tokens were."""
        tiles = iter([tile for image in prepared.images for tile in image.values])
        of_image = prepared.ids == self._image_token_id
        starts = np.flatnonzero(np.diff(of_image, prepend=not of_image[0]))
        found = []
        for ids in np.split(prepared.ids, starts[1:]):
            if ids[0] != self._image_token_id:
                found.append(self._api.make_token_input(ids.tolist()))
                continue
            for tile, _ in zip(tiles, range(len(ids) // self._per_tile(prepared)), strict=False):
                found.append(self._api.make_image_input(torch.from_numpy(tile[None])))
        return found

    def _per_tile(self, prepared: Prepared) -> int:
        tiles = sum(len(image.values) for image in prepared.images)
        return int(np.count_nonzero(prepared.ids == self._image_token_id)) // tiles

    def _pieces(self, inputs: list[Any], limit: int) -> list[str]:
        """Returns the text of each token of the answer."""
        config = self._api.GenerationConfig(temperature=0.0, max_new_tokens=limit, echo=False)
        found: list[str] = []
        try:
            with kept(1, 2):  # it also writes each answer and its figures
                self._runner.generate(inputs, config, found.append)
        except UnicodeDecodeError as error:
            raise UserError(
                "MultimodalRunner cannot give Python a token that is a part of a character; ask "
                "something else, or use --runtime executorch"
            ) from error
        except RuntimeError as error:
            raise UserError(f"MultimodalRunner: {short(str(error), 200)}") from error
        return found


def _expect_inputs(artifact: Artifact) -> None:
    vlm = artifact.manifest.vlm
    needs = {
        "positions on three axes": vlm.text.rope_sections is not None,
        "images that attend to later positions": vlm.text.sees_later_positions,
        "images of any size": isinstance(vlm.vision, ImageVision),
    }
    if left := [words for words, needed in needs.items() if needed]:
        raise UserError(
            f"{artifact.path}: MultimodalRunner has no input for {' and '.join(left)}; use "
            f"--runtime executorch"
        )
