#!/usr/bin/env bash
# OpenVINO rounds where ONNX's BitShift to the right drops bits, if the length of its input is not fixed.
#
# Versions: openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.22.0, Python 3.11.
#
# 157 >> 4 is 9. OpenVINO translates the shift to a division by 16. For an input of a fixed length it drops
# the fraction; for one of any length it rounds to the nearest number, without an error. Graphs that
# unpack 4-bit codes of the embeddings of a prompt load, and half of the high codes are one too large:
#
#     5 bytes: onnxruntime [0, 0, 1, 9, 15], openvino [0, 0, 1, 9, 15]
#     any number: onnxruntime [0, 0, 1, 9, 15], openvino [0, 1, 1, 10, 16]
#
# Way around: graphs without BitShift. PocketVLM's runtime opens the layout native alone, which has none.
#
# Takes half a minute.

set -euo pipefail
export CI=true # OpenVINO reports no imports then (openvino-import-reports.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.22.0 2>/dev/null
cat >"$work/try.py" <<'PYTHON'
"""Shifts bytes to the right by 4 in both libraries."""
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

path, values = f"{sys.argv[1]}/shift.onnx", np.array([7, 15, 16, 157, 255], np.uint8)
for said, length in (("5 bytes", 5), ("any number", None)):
    x, y = (helper.make_tensor_value_info(name, TensorProto.UINT8, (length,)) for name in "xy")
    by = helper.make_tensor("by", TensorProto.UINT8, (), [4])
    node = helper.make_node("BitShift", ["x", "by"], ["y"], direction="RIGHT")
    graph = helper.make_graph([node], "g", [x], [y], [by])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    there = onnxruntime.InferenceSession(path).run(None, {"x": values})[0]
    here = openvino.Core().compile_model(path, "CPU")({"x": values})[0]
    print(f"{said}: onnxruntime {there.tolist()}, openvino {here.tolist()}")
PYTHON
seen=$("$work/venv/bin/python" "$work/try.py" "$work")
echo "$seen"
test "$seen" = "5 bytes: onnxruntime [0, 0, 1, 9, 15], openvino [0, 0, 1, 9, 15]
any number: onnxruntime [0, 0, 1, 9, 15], openvino [0, 1, 1, 10, 16]"
