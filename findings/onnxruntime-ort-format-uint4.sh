#!/usr/bin/env bash
# ONNX Runtime writes .ort files with uint4 tensors that it then refuses to load.
#
# Versions: onnxruntime 1.32.0, onnx 1.22.0, Python 3.11.
#
# A graph with an initializer of type uint4 or int4 runs. Saved in ORT format, by a session that folds
# nothing, it is written without an error or a warning; the same library does not load the file:
#
#     uint8: onnx [1.0, 2.0, 3.0, 4.0], ort [1.0, 2.0, 3.0, 4.0]
#     uint4: onnx [1.0, 2.0, 3.0, 4.0], ort InvalidArgument: Unsupported tensor data type '<unknown>'
#     int4: onnx [1.0, 2.0, 3.0, 4.0], ort InvalidArgument: Unsupported tensor data type '<unknown>'
#
# At its default optimization the converter folds a Cast of such a constant, so the file loads and holds
# one byte or four for each weight that had half of one.
#
# Way around: store two codes in a byte of uint8, and unpack them by operators of integers.
#
# Takes a quarter of a minute.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.22.0 2>/dev/null
cat >"$work/try.py" <<'PYTHON'
"""Runs a graph with a constant of some type, as .onnx and as .ort."""
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

folder = Path(sys.argv[1])
zeros = {"x": np.zeros(4, np.float32)}


def run(path: Path, saved: Path | None = None) -> str:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if saved is not None:
        options.optimized_model_filepath = str(saved)
        options.add_session_config_entry("session.save_model_format", "ORT")
    try:
        return str(ort.InferenceSession(path, options).run(None, zeros)[0].tolist())
    except Exception as error:
        reason = str(error).split(" : ")[-1].split(" for tensor")[0]
        return f"{type(error).__name__}: {reason}"


for name in ("uint8", "uint4", "int4"):
    kind = getattr(TensorProto, name.upper())
    values = [helper.make_tensor_value_info(v, TensorProto.FLOAT, (4,)) for v in "xy"]
    nodes = [
        helper.make_node("Cast", ["codes"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "wide"], ["y"]),
    ]
    codes = helper.make_tensor("codes", kind, (4,), [1, 2, 3, 4])
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [codes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    print(f"{name}: onnx {run(path, path.with_suffix('.ort'))}, ort {run(path.with_suffix('.ort'))}")
PYTHON
seen=$("$work/venv/bin/python" "$work/try.py" "$work")
echo "$seen"
values='[1.0, 2.0, 3.0, 4.0]'
refused="InvalidArgument: Unsupported tensor data type '<unknown>'"
test "$seen" = "uint8: onnx $values, ort $values
uint4: onnx $values, ort $refused
int4: onnx $values, ort $refused"
