#!/usr/bin/env bash
# transformers 5 drops the linear rotary positions of a Gemma 3 whose config.json says `type`.
#
# Versions: transformers 5.23.0, Python 3.11, without torch.
#
# Older releases named the kind of rotary positions `type` in rope_scaling, and transformers 5 still
# reads that name for other models: {"type": "linear", "factor": 8.0} is linear for LlamaConfig. For
# Gemma3TextConfig it is the default kind. Its convert_rope_params_to_dict puts "rope_type":
# "default" into rope_parameters["full_attention"] first and then updates it with rope_scaling, so
# that `rope_type` is already there when `type` would be looked at. The global layers then turn eight
# times as far; only a warning calls `factor` an unrecognized key of the default kind. Seen:
#
#     LlamaConfig, type: linear
#     LlamaConfig, rope_type: linear
#     Gemma3TextConfig, type: default
#     Gemma3TextConfig, rope_type: linear
#
# Way around: write rope_type. Google's own files do.
#
# Takes a minute.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet transformers==5.23.0

cat >"$work/show.py" <<'PYTHON'
from transformers import Gemma3TextConfig, LlamaConfig

found = {}
for kind in (LlamaConfig, Gemma3TextConfig):
    for key in ("type", "rope_type"):
        rope = kind(rope_scaling={key: "linear", "factor": 8.0}).rope_parameters
        rope = rope.get("full_attention", rope)
        found[kind.__name__, key] = rope["rope_type"]
        print(f"{kind.__name__}, {key}: {rope['rope_type']}")
assert found.pop(("Gemma3TextConfig", "type")) == "default", "Gemma 3's `type` is read now"
assert set(found.values()) == {"linear"}, "one of the others is not read"
PYTHON
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/show.py"
