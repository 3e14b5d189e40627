"""Runs a text decoder in onnxruntime-genai's own loop; see serve.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

CONTEXT = 2048


class Model:
    """A folder that onnxruntime-genai's model builder wrote, and its cache."""

    def __init__(self, folder: str, threads: int) -> None:
        config = og.Config(folder)
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self._model = og.Model(config)
        about = json.loads((Path(folder) / "genai_config.json").read_text())
        length = min(CONTEXT, about["model"]["context_length"])
        parameters = og.GeneratorParams(self._model)
        # min_length: so that no end token ends an answer
        parameters.set_search_options(
            min_length=length, max_length=length, past_present_share_buffer=True
        )
        self._generator = og.Generator(self._model, parameters)

    def answer(self, request: dict[str, Any], step: Callable[[str, int], None]) -> None:
        """Decodes greedily from an empty cache."""
        if self._generator.token_count():
            self._generator.rewind_to(0)
        self._generator.append_tokens(np.array([request["ids"]], np.int32))
        step("prefill", len(request["ids"]))
        for _ in range(request["tokens"]):
            self._generator.generate_next_token()
            step("token", int(self._generator.get_next_tokens()[0]))


def open_model(folder: str, threads: int) -> Model:
    """Opens the folder with that many threads."""
    return Model(folder, threads)
