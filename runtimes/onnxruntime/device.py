"""Runs the decoder graph of layout cuda, with inputs, key-value cache and logits on the device.

A decode step copies one row of embeddings and a few integers into fixed buffers and reads back the
chosen token, so that it can be captured as a CUDA graph. Also runs on the CPU, for tests.
"""

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.arrays import FloatArray, IntArray
from export.modeling.decoder import Decoder
from runtimes.base import Logits
from runtimes.devices import Device
from runtimes.graphs.decoder import CACHE
from runtimes.onnxruntime.graph import inputs_of

STRIDE = 256
"""If the attention mask is made of image ids, a decode step attends to a multiple of this many
positions: each length is another CUDA graph."""
NOT_CAPTURED = "-1"  # value of gpu_graph_id


class DeviceLogits:
    """Logits [vocab] on the device, copied to the host on request; valid until the next step."""

    def __init__(self, logits: ort.OrtValue, token: ort.OrtValue) -> None:
        self._logits, self._token = logits, token

    def argmax(self) -> int:
        """Returns the token with the largest logit, which the graph has computed."""
        return int(self._token.numpy()[0, 0])

    def copy(self) -> FloatArray:
        """Returns the logits as a new array on the host."""
        values: FloatArray = self._logits.numpy()[0, 0].copy()  # numpy() is a view on the CPU
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.copy()


class DeviceDecoder:
    """Runs the decoder graph with its inputs, cache and logits on `device` (GraphDecoder).

    `capture`: whether decode steps are captured as CUDA graphs; the graph must have been loaded
    with CUDA graphs enabled.
    """

    def __init__(
        self,
        graph: ort.InferenceSession,
        text: Decoder,
        context: int,
        device: Device,
        capture: bool = False,
    ) -> None:
        self._graph, self._context, self._device = graph, context, device
        self._takes, self._capture = inputs_of(graph), capture
        # Cleared: attention multiplies what follows the valid positions by 0; it must be finite.
        self._cache = {
            f"{i}.{kind}": self._zeros(state.shape(context), np.float16)
            for i, state in enumerate(text.states)
            for kind in ("key", "value")
        }
        self._outputs = {
            "logits": self._zeros((1, 1, text.vocab), np.float32),
            "token": self._zeros((1, 1), np.int64),
        }
        if "state" in {output.name for output in graph.get_outputs()}:
            self._outputs["state"] = self._zeros((1, 1, text.hidden), np.float32)
        self._steps: dict[int, ort.IOBinding] = {}
        self._fed = {
            "inputs_embeds": self._zeros((1, 1, text.hidden), np.float32),
            "seqlens_k": self._zeros((1,), np.int32),
        }
        if "cache_positions" in self._takes:
            self._fed["cache_positions"] = self._zeros((1,), np.int64)
        if "position_ids" in self._takes:
            self._fed["position_ids"] = self._zeros((3, 1, 1), np.int64)

    @property
    def state(self) -> FloatArray:
        """Returns the decoder's state before the output norm at the last position: [hidden]."""
        values: FloatArray = self._outputs["state"].numpy()[0, 0]
        return values

    def extend(
        self, embeds: FloatArray, past: int, image_ids: IntArray, positions: IntArray
    ) -> Logits:
        """Runs the decoder on new embeddings; returns the last logits [vocab] (GraphDecoder).

        The logits stay on the device and are valid until the next call.
        """
        fed = self._inputs(embeds, past, positions)
        if past and embeds.shape[1] == 1:
            self._step(fed, past)
        else:
            self._prefill(fed, image_ids)
        return DeviceLogits(self._outputs["logits"], self._outputs["token"])

    def _inputs(
        self, embeds: FloatArray, past: int, positions: IntArray
    ) -> dict[str, NDArray[Any]]:
        """Returns the graph inputs that change with every step, by name."""
        total = past + embeds.shape[1]
        inputs: dict[str, NDArray[Any]] = {
            "inputs_embeds": embeds,
            "seqlens_k": np.array([total - 1], np.int32),
            "cache_positions": np.arange(past, total),
            "position_ids": np.ascontiguousarray(positions[:, None]),
        }
        return {name: values for name, values in inputs.items() if name in self._takes}

    def _prefill(self, fed: dict[str, NDArray[Any]], image_ids: IntArray) -> None:
        binding = self._graph.io_binding()
        self._bind(binding)
        total = np.array([len(image_ids)], np.int32)
        for name, values in {**fed, "total_sequence_length": total}.items():
            binding.bind_cpu_input(name, values)
        if "image_numbers" in self._takes:
            binding.bind_cpu_input("image_numbers", image_ids[None])
        self._run(binding, NOT_CAPTURED)

    def _step(self, fed: dict[str, NDArray[Any]], past: int) -> None:
        for name, values in fed.items():
            self._fed[name].update_inplace(values)
        total = self._context
        if "image_numbers" in self._takes:
            total = min(total, past // STRIDE * STRIDE + STRIDE)
        self._run(self._bound_step(total), str(total))

    def _bound_step(self, total: int) -> ort.IOBinding:
        """Returns the buffers of a decode step that attends to `total` positions, bound once."""
        if total not in self._steps:
            binding = self._graph.io_binding()
            self._bind(binding)
            for name, value in self._fed.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_cpu_input("total_sequence_length", np.array([total], np.int32))
            if "image_numbers" in self._takes:  # all 0, text: a new token attends to all before it
                text = self._zeros((1, total), np.int64)
                binding.bind_ortvalue_input("image_numbers", text)
            self._steps[total] = binding
        return self._steps[total]

    def _run(self, binding: ort.IOBinding, graph_id: str) -> None:
        options = ort.RunOptions()
        if self._capture:
            options.add_run_config_entry("gpu_graph_id", graph_id)
        self._graph.run_with_iobinding(binding, options)

    def _bind(self, binding: ort.IOBinding) -> None:
        for name, buffer in self._cache.items():
            binding.bind_ortvalue_input(f"{CACHE}{name}", buffer)
            binding.bind_ortvalue_output(f"present.{name}", buffer)
        for name, value in self._outputs.items():
            binding.bind_ortvalue_output(name, value)

    def _zeros(self, shape: tuple[int, ...], dtype: type[np.generic]) -> ort.OrtValue:
        values = np.zeros(shape, dtype)  # on the CPU, the OrtValue shares this buffer
        return ort.OrtValue.ortvalue_from_numpy(values, self._device.kind, self._device.index)
