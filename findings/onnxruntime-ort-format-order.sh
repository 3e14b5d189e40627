#!/usr/bin/env bash
# ONNX Runtime writes other bytes into an .ort file each time that it converts the same model.
#
# Versions: onnxruntime 1.32.0, onnx 1.22.0, Python 3.11.
#
# The file has a table of the types that choose an operator's kernel. Its entries are made in the order of a
# hash table whose seed is another one in each process. Nothing warns of it, and all files load and compute
# the same. Eight conversions, one process each (the first number is chance, seen from 4 to 5):
#
#     different files: 4, different from the model on: 1, results: [2.0, 4.0]
#
# What follows the table, the model with its weights, is alike ("from the model on"), also when aarch64's
# ONNX Runtime wrote it.
#
# Way around: write that table anew, in the order of its sorted index (export/onnx/ort_order.py).
#
# Takes a quarter of a minute.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.22.0 2>/dev/null
cat >"$work/make.py" <<'PYTHON'
"""Makes a model of operators whose kernels are chosen by more than one type."""
import sys

import onnx
from onnx import TensorProto, helper

x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (2,)) for name in "xy")
nodes = [
    helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
    helper.make_node("Shape", ["x"], ["shape"]),
    helper.make_node("Reshape", ["i", "shape"], ["same"]),
    helper.make_node("Gather", ["x", "index"], ["picked"]),
    helper.make_node("Cast", ["same"], ["wide"], to=TensorProto.FLOAT),
    helper.make_node("Equal", ["picked", "wide"], ["equal"]),
    helper.make_node("Where", ["equal", "wide", "picked"], ["chosen"]),
    helper.make_node("Add", ["chosen", "picked"], ["y"]),
]
index = helper.make_tensor("index", TensorProto.INT64, (2,), [0, 1])
graph = helper.make_graph(nodes, "g", [x], [y], [index])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.save(model, sys.argv[1])
PYTHON
cat >"$work/convert.py" <<'PYTHON'
import sys

import onnxruntime as ort

options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
options.optimized_model_filepath = sys.argv[2]
options.add_session_config_entry("session.save_model_format", "ORT")
ort.InferenceSession(sys.argv[1], options)
PYTHON
cat >"$work/compare.py" <<'PYTHON'
"""Counts different files, and different ends of files, which begin with the model's table."""
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from flatbuffers.table import Table

files, ends, results = set(), set(), set()
for path in map(Path, sys.argv[1:]):
    content = path.read_bytes()
    root = Table(content, int.from_bytes(content[:4], "little"))
    model = root.Indirect(root.Pos + root.Offset(6))
    files.add(content)
    ends.add(content[model + 4 :])  # its first four bytes point to what may lie before it
    inputs = {"x": np.array([1, 2], np.float32)}
    results.add(str(ort.InferenceSession(path).run(None, inputs)[0].tolist()))
print(f"different files: {len(files)}, different from the model on: {len(ends)}, results: {', '.join(results)}")
PYTHON
"$work/venv/bin/python" "$work/make.py" "$work/model.onnx"
for n in 1 2 3 4 5 6 7 8; do
    "$work/venv/bin/python" "$work/convert.py" "$work/model.onnx" "$work/$n.ort"
done
seen=$("$work/venv/bin/python" "$work/compare.py" "$work"/*.ort)
echo "$seen"
[[ "$seen" =~ ^"different files: "([2-8])", different from the model on: 1, results: [2.0, 4.0]"$ ]]
