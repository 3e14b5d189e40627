"""Baseline: runs a text model with onnxruntime-genai, in the format of its own model builder.

Text only: the builder does not support the vision towers of our families.
"""

import json
from pathlib import Path

import numpy as np

from export.arrays import FloatArray
from export.artifact import Artifact
from export.errors import UserError
from export.files import short
from runtimes.base import Session
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Extend
from runtimes.session.loop import GreedySession

CONTEXT = 2048


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Loads a folder that onnxruntime-genai's model builder wrote (see `bench peers`); CPU only.

    Returns a session for text alone, without stop tokens.
    """
    return GreedySession(GenaiBackend(artifact.path, threads), preparer_of(artifact), ())


class GenaiBackend:
    """A Backend that appends tokens with onnxruntime-genai and returns its logits; text only."""

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime_genai as og

        options = {"session_options": {"intra_op_num_threads": threads}}
        try:
            config = og.Config(str(folder))
            config.overlay(json.dumps({"model": {"decoder": options}}))
            self._model = og.Model(config)
        except RuntimeError as error:  # the library raises no other for a file
            reason = short(" ".join(str(error).split()), 200)
            raise UserError(
                f"{folder}: onnxruntime-genai cannot load it ({reason}); build it again with "
                f"bench peers"
            ) from error
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(max_length=CONTEXT, past_present_share_buffer=True)
        self._generator = og.Generator(self._model, parameters)
        self.context = CONTEXT

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Raises UserError: this baseline takes no images."""
        raise UserError("genai only runs text here; ask for --prompt text")

    def extend(self, step: Extend) -> FloatArray:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""
        if step.past < self._generator.token_count():
            self._generator.rewind_to(step.past)
        self._generator.append_tokens(step.ids[None].astype(np.int32))
        logits: FloatArray = self._generator.get_logits()[0, -1]
        return logits

    def close(self) -> None:
        """Frees the model and its cache."""
        del self._generator, self._model
