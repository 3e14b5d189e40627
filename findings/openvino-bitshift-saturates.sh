#!/usr/bin/env bash
# OpenVINO computes ONNX's BitShift to the left of uint8 by a product that saturates.
#
# Versions: openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.22.0, Python 3.11.
#
# A shift to the left drops the bits that leave the byte; so does ONNX Runtime. OpenVINO returns 255
# wherever a bit would leave, without an error. Shifts to the right agree. Graphs that unpack two 4-bit
# codes from a byte as (byte << 4) >> 4 and byte >> 4 load, and get 15 for nearly every low code:
#
#     LEFT: onnxruntime [0, 16, 32, 240, 0, 80], openvino [0, 16, 32, 240, 255, 255]
#     RIGHT: onnxruntime [0, 0, 0, 0, 1, 2], openvino [0, 0, 0, 0, 1, 2]
#
# It is the same for a constant and for an input of the graph.
#
# Way around: mask before or instead (BitwiseAnd with 15, and a shift to the right by 4).
#
# Takes half a minute.

set -euo pipefail
export CI=true # OpenVINO reports no imports then (openvino-import-reports.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.22.0 2>/dev/null
cat >"$work/try.py" <<'PYTHON'
"""Shifts bytes by 4 in both libraries."""
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

path, values = f"{sys.argv[1]}/shift.onnx", np.array([0, 1, 2, 15, 16, 37], np.uint8)
for direction in ("LEFT", "RIGHT"):
    x, y = (helper.make_tensor_value_info(name, TensorProto.UINT8, (6,)) for name in "xy")
    by = helper.make_tensor("by", TensorProto.UINT8, (), [4])
    node = helper.make_node("BitShift", ["x", "by"], ["y"], direction=direction)
    graph = helper.make_graph([node], "g", [x], [y], [by])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    there = onnxruntime.InferenceSession(path).run(None, {"x": values})[0]
    here = openvino.Core().compile_model(path, "CPU")({"x": values})[0]
    print(f"{direction}: onnxruntime {there.tolist()}, openvino {here.tolist()}")
PYTHON
seen=$("$work/venv/bin/python" "$work/try.py" "$work")
echo "$seen"
test "$seen" = "LEFT: onnxruntime [0, 16, 32, 240, 0, 80], openvino [0, 16, 32, 240, 255, 255]
RIGHT: onnxruntime [0, 0, 0, 0, 1, 2], openvino [0, 0, 0, 0, 1, 2]"
