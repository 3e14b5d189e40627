"""onnxruntime-genai on the output of its own model builder: prefill and decode of given ids.

Text only: the builder does not support the vision towers of our families.
"""

import json
from pathlib import Path

import numpy as np

from export.arrays import FloatArray
from export.artifact import Artifact
from export.errors import UserError
from runtimes.base import Session
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Extend
from runtimes.session.loop import GreedySession

CONTEXT = 2048


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Open a folder that onnxruntime-genai's model builder wrote (see `bench peers`)."""
    return GreedySession(GenaiBackend(artifact.path, threads), preparer_of(artifact), ())


class GenaiBackend:
    """A runtimes.session.backend.Backend over onnxruntime_genai.Generator."""

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime_genai as og

        config = og.Config(str(folder))
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self._model = og.Model(config)
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(max_length=CONTEXT, past_present_share_buffer=True)
        self._generator = og.Generator(self._model, parameters)
        self.context = CONTEXT

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        raise UserError("genai only runs text here; ask for --prompt text")

    def extend(self, step: Extend) -> FloatArray:
        """See runtimes.session.backend.Backend."""
        if step.past < self._generator.token_count():
            self._generator.rewind_to(step.past)
        self._generator.append_tokens(step.ids[None].astype(np.int32))
        logits: FloatArray = self._generator.get_logits()[0, -1]
        return logits

    def close(self) -> None:
        del self._generator, self._model
