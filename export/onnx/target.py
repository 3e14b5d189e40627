"""Defines the ONNX target: graphs with external data, for ONNX Runtime and its clients."""

from export.onnx.memory import ONNX_RUNTIME
from export.target import Target, late

TOOLS = {"onnx": "onnx", "onnx_ir": "onnx-ir", "onnxruntime": "onnxruntime"}

ONNX = Target(
    layouts=("native", "cuda", "transformers.js", "genai"),
    write=late("export.onnx.write:write"),
    sizes=late("export.onnx.write:sizes"),
    client_files=late("export.onnx.write:client_files"),
    memory=ONNX_RUNTIME,
    tools=TOOLS,
)
