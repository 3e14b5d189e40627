#!/usr/bin/env bash
# litert-torch exports Gemma 3 with an image encoder that nothing normalizes images for.
#
# Versions: litert-torch 0.10.0, litert-lm-builder 0.18.1, transformers 5.23.0, torch 2.13.0 (CPU),
# Python 3.11.
#
# Gemma 3's image processor maps pixels to (pixel / 255 - 0.5) / 0.5, so from -1 to 1. The encoder
# that `litert-torch export_hf --task=image_text_to_text` writes passes its input to SigLIP as it is
# (LiteRTExportableModuleForGemma3VisionEncoder), and the metadata beside it has no field for mean and
# standard deviation: in LiteRT-LM only models of type lfm2 do, all others get pixel / 255. So an
# exported Gemma 3 sees values from 0 to 1. With random weights, of the features of one image, the
# cosine with those of transformers:
#
#     pixels as LiteRT-LM prepares them: below .9
#     pixels as Gemma 3's processor prepares them: 1.00000
#     model types with a mean: lfm2
#
# A small Gemma 3 with trained weights gave 16 of 40 right answers in LiteRT-LM 0.18.1, and 38 after
# normalization was added to the encoder; the other 2 need a bidirectional mask within images, which
# the exporter does not ask the runner for, either.
#
# Way around: export an encoder whose first operation is the normalization.
#
# The script installs about 2 GB and takes some minutes.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/encode.py" <<'PYTHON'
import numpy as np
import torch
from litert_lm_builder.runtime.proto import llm_model_type_pb2 as types
from litert_torch.generative.export_hf.model_ext.gemma3 import vision_exportable
from PIL import Image
from transformers import Gemma3Config, Gemma3ForConditionalGeneration
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

torch.manual_seed(0)
text = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
vision = {"image_size": 64, "patch_size": 8, "hidden_size": 64, "intermediate_size": 128}
vision |= {"num_hidden_layers": 2, "num_attention_heads": 2}
config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=16)
model = Gemma3ForConditionalGeneration(config).eval()
image = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 100).convert("RGB")

processor = Gemma3ImageProcessorPil(size={"height": 64, "width": 64})
prepared = processor(images=image, return_tensors="pt")["pixel_values"]
encoder = vision_exportable.LiteRTExportableModuleForGemma3VisionEncoder(model, None)


def cosine(images):
    with torch.no_grad():
        wanted = model.model.vision_tower(pixel_values=prepared).last_hidden_state
        found = encoder(images)["features"]
    return torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), 0).item()


levels = torch.from_numpy(np.asarray(image, np.float32))[None] / 255
low = cosine(levels)
print("pixels as LiteRT-LM prepares them:", "below .9" if low < 0.9 else f"{low:.5f}")
exact = cosine(prepared.permute(0, 2, 3, 1))
print("pixels as Gemma 3's processor prepares them:", f"{exact:.5f}")
fields = types.LlmModelType.DESCRIPTOR.fields
having = [f.name for f in fields if any("mean" in g.name for g in f.message_type.fields)]
print("model types with a mean:", *having)
PYTHON
python3 -m venv "$work/venv"
for packages in torch==2.13.0 "litert-torch==0.10.0 litert-lm-builder==0.18.1 transformers==5.23.0"; do
    # shellcheck disable=SC2086
    "$work/venv/bin/pip" install --quiet $packages 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
done
# transformers prints notes about its own docstrings to the standard output.
"$work/venv/bin/python" -I -W ignore "$work/encode.py" 2>"$work/log" | grep -v "^\[ERROR\]" |
    tee "$work/seen" || { cat "$work/log" >&2; exit 1; }

sed -n "s/^#     \(pixels\|model types\)/\1/p" "$0" | diff - "$work/seen" ||
    { echo "litert-torch has changed: see the head of the script" >&2; exit 1; }
