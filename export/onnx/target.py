"""Defines the ONNX target: graphs with external data, for ONNX Runtime and its clients."""

from export.onnx.memory import ONNX_RUNTIME
from export.target import Target, late

TOOLS = {"onnx": "onnx", "onnx_ir": "onnx-ir", "onnxruntime": "onnxruntime"}
SIZE_ERROR = 0.02
"""Most that the predicted bytes of .ort files may be off together, as a share: up to 0.017
for the tiny models of the tests, where names and shapes count, and 0.0002 for smolvlm-256m."""

ONNX = Target(
    layouts=("native", "cuda", "transformers.js", "genai", "ort"),
    write=late("export.onnx.write:write"),
    sizes=late("export.onnx.write:sizes"),
    client_files=late("export.onnx.write:client_files"),
    size_error={"ort": SIZE_ERROR},
    memory=ONNX_RUNTIME,
    tools=TOOLS,
)
