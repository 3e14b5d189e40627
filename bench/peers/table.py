"""The table of the programs that `bench peers` measures, each beside one of our runtimes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runtimes.peers.environments import ENVIRONMENTS, LLAMA

Prompt = Literal["text", "image"]
OURS: Mapping[str, str] = {"onnxruntime": "onnx", "openvino": "onnx", "llama_cpp": "gguf"}
"""Our runtimes -> the target of the artifact that each opens, in its layout `native`. The others
are compared with the first one."""


@dataclass(frozen=True)
class Peer:
    """One program of another project.

    `name` is shown, with the version of `package` that its lock pins. `runtime` is its row of
    RUNTIMES, `target` what it opens: "gguf" is our own artifact, others are in BUILDERS. `beside`
    is our runtime that it is compared with. `prompts`: the requests that it can answer.
    """

    name: str
    package: str
    environment: str
    runtime: str
    target: str
    beside: str
    prompts: tuple[Prompt, ...]

    @property
    def title(self) -> str:
        """Its name and version."""
        version = ENVIRONMENTS[self.environment].version(self.package)
        return f"{self.name} {version}" if version else f"{self.name} of {LLAMA.replace('==', ' ')}"


PEERS = (
    Peer(
        "llama-bench",
        *("", "llama.cpp", "llama_bench_program", "gguf", "llama_cpp"),
        prompts=("text",),
    ),
    Peer(
        "llama-server",
        *("", "llama.cpp", "llama_server", "gguf", "llama_cpp"),
        prompts=("text", "image"),
    ),
    Peer(
        "llama-mtmd-cli",
        *("", "llama.cpp", "llama_mtmd_cli", "gguf", "llama_cpp"),
        prompts=("image",),
    ),
    Peer(
        "onnxruntime-genai",
        *("onnxruntime-genai", "genai", "genai", "genai", "onnxruntime"),
        prompts=("text",),
    ),
    Peer(
        "OpenVINO GenAI",
        *("openvino-genai", "openvino", "openvino_genai", "openvino", "onnxruntime"),
        prompts=("text",),
    ),
)
# Exporters that `bench peers` has no program for -> why, as tried in November 2026.
UNMEASURED: Mapping[str, str] = {
    "transformers 5.24, its own ONNX exporter": "it writes float32 alone, of SmolVLM and Gemma 3 "
    "not the image encoder, and a graph for prompts beside one for steps, for which there is no "
    "program",
    "mobius-onnx 0.1.0": "it writes no 4 bits without Olive, and fails on SmolVLM",
}
