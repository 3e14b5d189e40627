#!/usr/bin/env bash
# ExecuTorch's XNNPACK backend computes GELU itself where a model asks for its tanh approximation.
#
# Versions: executorch 1.5.1, torch 2.13.0 (CPU), torchao 0.18.0, Python 3.11.
#
# torch.nn.functional.gelu(x, approximate="tanh") is the activation of SigLIP, of SmolVLM's, Gemma 3's
# and Moondream's image encoders and of Gemma's decoders. Lowered with the XNNPACK partitioner and no
# warning, the argument is dropped: GeluConfig.check_constraints does not look at it, and GeluVisitor
# writes the same node for both forms (backends/xnnpack/operators/op_gelu.py). The program then
# computes x * Phi(x). Largest difference over -6 … 6, in float32:
#
#     delegated, from torch's tanh form: 5e-04
#     delegated is torch's exact form: True
#     portable is torch's tanh form: True
#
# The difference is a thousand times what float32 rounding explains, and adds up over layers: the
# features of a SigLIP with four layers were off by 3.5e-4 of the largest one.
#
# Way around: write the approximation out, x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).
#
# The script installs about 1 GB and takes some minutes.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/lower.py" <<'PYTHON'
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch.nn.functional import gelu


class Gelu(torch.nn.Module):
    def forward(self, x):
        return gelu(x, approximate="tanh")


x = torch.linspace(-6, 6, 1001)


def computed(partitioner):
    traced = torch.export.export(Gelu(), (x,))
    program = to_edge_transform_and_lower(traced, partitioner=partitioner).to_executorch()
    return Runtime.get().load_program(program.buffer).load_method("forward").execute([x])[0]


def off(found, wanted):
    return f"{(found - wanted).abs().max().item():.0e}"


delegated, portable = computed([XnnpackPartitioner()]), computed([])
tanh, exact = gelu(x, approximate="tanh"), gelu(x)
print("delegated, from torch's tanh form:", off(delegated, tanh))
print("delegated is torch's exact form:", bool((delegated - exact).abs().max() < 1e-5))
print("portable is torch's tanh form:", bool((portable - tanh).abs().max() < 1e-5))
PYTHON
python3 -m venv "$work/venv"
for packages in torch==2.13.0 "executorch==1.5.1 torchao==0.18.0"; do
    # shellcheck disable=SC2086
    "$work/venv/bin/pip" install --quiet $packages 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
done
"$work/venv/bin/python" -I -W ignore "$work/lower.py" 2>"$work/log" | tee "$work/seen" ||
    { cat "$work/log" >&2; exit 1; }

sed -n "s/^#     \(delegated\|portable\)/\1/p" "$0" | diff - "$work/seen" ||
    { echo "executorch has changed: see the head of the script" >&2; exit 1; }
