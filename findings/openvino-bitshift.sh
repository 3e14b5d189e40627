#!/usr/bin/env bash
# OpenVINO computes ONNX's BitShift by a product or a division, and differs in both directions.
#
# Versions: openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.22.0, Python 3.11.
#
# A shift drops the bits that leave the byte; so does ONNX Runtime. OpenVINO, without an error:
#
# * to the left: returns 255 wherever a bit would leave;
# * to the right: drops the fraction for an input of a fixed length, but for one of any length rounds to
#   the nearest number.
#
# Graphs that unpack two 4-bit codes from a byte as (byte << 4) >> 4 and byte >> 4 load. They get 15 for
# nearly every low code, and half of the high codes are one too large:
#
#     LEFT, 5 bytes: onnxruntime [16, 240, 0, 208, 240], openvino [16, 240, 255, 255, 255]
#     RIGHT, 5 bytes: onnxruntime [0, 0, 1, 9, 15], openvino [0, 0, 1, 9, 15]
#     LEFT, any number: onnxruntime [16, 240, 0, 208, 240], openvino [16, 240, 255, 255, 255]
#     RIGHT, any number: onnxruntime [0, 0, 1, 9, 15], openvino [0, 1, 1, 10, 16]
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
"""Shifts bytes by 4 in both libraries."""
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

path, values = f"{sys.argv[1]}/shift.onnx", np.array([1, 15, 16, 157, 255], np.uint8)
for said, length in (("5 bytes", 5), ("any number", None)):
    for direction in ("LEFT", "RIGHT"):
        x, y = (helper.make_tensor_value_info(name, TensorProto.UINT8, (length,)) for name in "xy")
        by = helper.make_tensor("by", TensorProto.UINT8, (), [4])
        node = helper.make_node("BitShift", ["x", "by"], ["y"], direction=direction)
        graph = helper.make_graph([node], "g", [x], [y], [by])
        opset = helper.make_opsetid("", 18)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
        there = onnxruntime.InferenceSession(path).run(None, {"x": values})[0]
        here = openvino.Core().compile_model(path, "CPU")({"x": values})[0]
        print(f"{direction}, {said}: onnxruntime {there.tolist()}, openvino {here.tolist()}")
PYTHON
seen=$("$work/venv/bin/python" "$work/try.py" "$work")
echo "$seen"
test "$seen" = "$(sed -n 's/^#     //p' "$0")"
