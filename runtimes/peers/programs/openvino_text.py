"""Runs a text decoder in OpenVINO GenAI's pipeline for text; see serve.py."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai


class Steps(genai.StreamerBase):  # type: ignore[misc] # the library has no annotations here
    """Calls `step` for each token as the pipeline hands it on."""

    def __init__(self, positions: int, step: Callable[[str, int], None]) -> None:
        super().__init__()
        self._positions, self._step, self._first = positions, step, True

    def write(self, token: int | Sequence[int]) -> Any:
        """Called by the pipeline with one token, or with several."""
        if self._first:
            self._step("prefill", self._positions)
            self._first = False
        for one in [token] if isinstance(token, int) else token:
            self._step("token", one)
        return genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Called by the pipeline after the last token."""


class Model:
    """A folder that optimum-intel wrote, opened on the CPU."""

    def __init__(self, folder: str, threads: int) -> None:
        # Without one of its own the pipeline keeps prefixes of earlier prompts, whatever this
        # class has as its default.
        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        self._pipeline = genai.LLMPipeline(
            folder, "CPU", INFERENCE_NUM_THREADS=threads, scheduler_config=scheduler
        )

    def answer(self, request: dict[str, Any], step: Callable[[str, int], None]) -> None:
        """Decodes greedily from an empty cache."""
        ids = np.array([request["ids"]], np.int64)
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        config = genai.GenerationConfig(
            max_new_tokens=request["tokens"], ignore_eos=True, do_sample=False
        )
        self._pipeline.generate(inputs, config, Steps(ids.size, step))


def open_model(folder: str, threads: int) -> Model:
    """Opens the folder with that many threads."""
    return Model(folder, threads)
