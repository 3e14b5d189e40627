"""Defines the GGUF target: a decoder for llama.cpp, and a vision tower for llama.cpp or as ONNX."""

from export.gguf.memory import LLAMA_CPP
from export.onnx.target import TOOLS
from export.target import Target, late

GGUF = Target(
    layouts=("native", "onnx-vision"),
    write=late("export.gguf.write:write"),
    sizes=late("export.gguf.write:sizes"),
    memory=LLAMA_CPP,
    tools={"gguf": "gguf", "llama_cpp": "llama-cpp-python", **TOOLS},
)
