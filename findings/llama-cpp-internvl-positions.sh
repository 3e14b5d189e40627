#!/usr/bin/env bash
# llama.cpp adds InternVL's position embeddings one patch late.
#
# Versions: llama-cpp-python 0.3.36, gguf 0.19.0, transformers 5.23.0, torch 2.13.0, numpy 2.4.6,
# Python 3.11, on a CPU.
#
# InternVL's table of positions has a row for the class token, then one for each patch, because
# transformers' InternVLVisionEmbeddings puts the class token first. llama.cpp's graph
# (tools/mtmd/models/internvl.cpp, projector type "internvl") appends the class token after the
# patches, but adds v.position_embd.weight row by row, and its converter (conversion/internvl.py)
# writes the table unchanged. So the first patch gets the class token's position, every other patch
# that of the patch before it, and the class token the last patch's. No error, but wrong features.
#
# The script writes a tiny random tower, whose positions are as large as its patches' embeddings, as
# the converter would, and again with the table rolled by one row. It compares llama.cpp's features
# of one tile with transformers', in the third line after moving transformers' positions. Seen:
#
#     table as converted: cosine 0.3627132, max error 2.0332 of 2.14
#     table rolled by one row: cosine 0.9999999, max error 0.0009 of 2.14
#     table as converted, transformers one patch late: cosine 0.9999998, max error 0.0011 of 2.03
#
# The small rest has other causes: llama.cpp has the tanh approximation of GELU where InternVL has
# erf, but with tanh in transformers too the second error was still 0.0007.
#
# Way around: write the table with the class token's row last, torch.roll(table, -1, dims=0). When
# llama.cpp's graph puts the class token first, this script fails and the roll must go.
#
# Takes three minutes, and ten more where pip's cache has no wheel of llama-cpp-python and must
# compile it. On Linux the default wheel of torch brings CUDA, several GB; a CPU wheel does (set
# PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to where it is).

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# GCC leaves out stores to the settings of AMX's tiles, so on CPUs with AMX llama.cpp would end with
# SIGILL (its pull request 26954). Compilers for other CPUs do not know the option.
if "${CXX:-c++}" -mno-amx-int8 -E -x c++ /dev/null >"$work/log" 2>&1; then
    export CFLAGS="${CFLAGS:-} -mno-amx-int8" CXXFLAGS="${CXXFLAGS:-} -mno-amx-int8"
fi
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet llama-cpp-python==0.3.36 gguf==0.19.0 numpy==2.4.6 \
    torch==2.13.0 transformers==5.23.0

cat >"$work/show.py" <<'PYTHON'
import ctypes
import sys
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from gguf import GGUFValueType, GGUFWriter
from llama_cpp import mtmd_cpp as mtmd
from tokenizers.pre_tokenizers import ByteLevel
from transformers import InternVLConfig, InternVLModel

EDGE, PATCH, HIDDEN, WIDE, LAYERS, HEADS = 112, 14, 64, 128, 2, 4
TOKENS = (EDGE // PATCH // 2) ** 2  # the projector joins 2 x 2 patches
VOCABULARY = [*sorted(ByteLevel.alphabet()), "ab", "</s>"]
VISION = {
    "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "image_size": EDGE, "patch_size": PATCH, "attention_bias": True,
}
TEXT = {"model_type": "qwen2", "hidden_size": HIDDEN, "num_hidden_layers": 1, "vocab_size": 512}
TEXT |= {"num_attention_heads": HEADS, "num_key_value_heads": HEADS, "intermediate_size": WIDE}
NAMES = {  # parts of names in transformers and in llama.cpp's converter
    "vision_tower.embeddings.cls_token": "v.class_embd",
    "vision_tower.embeddings.position_embeddings": "v.position_embd.weight",
    "vision_tower.embeddings.patch_embeddings.projection": "v.patch_embd",
    "vision_tower.encoder.layer": "v.blk",
    "layernorm_before": "ln1", "layernorm_after": "ln2",
    "lambda_1": "ls1.weight", "lambda_2": "ls2.weight", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
    "attention.q_proj": "attn_q", "attention.k_proj": "attn_k", "attention.v_proj": "attn_v",
    "attention.projection_layer": "attn_out", "multi_modal_projector.layer_norm": "mm.model.mlp.0",
    "multi_modal_projector.linear_1": "mm.model.mlp.1",
    "multi_modal_projector.linear_2": "mm.model.mlp.3",
}

def write(name, arch, keys, tensors):
    path = Path(sys.argv[1]) / name
    writer = GGUFWriter(path, arch)
    for key, value in keys.items():
        found = GGUFValueType.get_type(value)
        writer.add_key_value(key, value, GGUFValueType.UINT32 if type(value) is int else found)
    for tensor, values in tensors.items():
        writer.add_tensor(tensor, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path).encode()

def write_text():
    """A text model, without which mtmd loads no tower; all its weights are 0."""
    square, up = (HIDDEN, HIDDEN), (WIDE, HIDDEN)
    shapes = {"token_embd": (len(VOCABULARY), HIDDEN), "output_norm": (HIDDEN,)}
    shapes |= {"blk.0.attn_norm": (HIDDEN,), "blk.0.ffn_norm": (HIDDEN,)}
    shapes |= {f"blk.0.attn_{part}": square for part in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": up, "blk.0.ffn_up": up, "blk.0.ffn_down": up[::-1]}
    keys = {
        "llama.block_count": 1, "llama.context_length": 64, "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": WIDE, "llama.attention.head_count": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": VOCABULARY, "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.token_type": [1] * (len(VOCABULARY) - 1) + [3],
        "tokenizer.ggml.eos_token_id": len(VOCABULARY) - 1,
    }
    zeros = {f"{name}.weight": np.zeros(shape) for name, shape in shapes.items()}
    return write("text.gguf", "llama", keys, zeros)

def write_tower(name, model):
    """The tower and the projector as llama.cpp's converter writes them."""
    tensors = {}
    for key, value in model.named_parameters():
        for theirs, ours in NAMES.items():
            key = key.replace(theirs, ours)
        if key.startswith(("v.", "mm.")):
            tensors[key] = value.squeeze().numpy()
    keys = {
        "clip.has_vision_encoder": True, "clip.projector_type": "internvl", "clip.use_gelu": True,
        "clip.vision.image_size": EDGE, "clip.vision.patch_size": PATCH,
        "clip.vision.embedding_length": HIDDEN, "clip.vision.feed_forward_length": WIDE,
        "clip.vision.block_count": LAYERS, "clip.vision.attention.head_count": HEADS,
        "clip.vision.attention.layer_norm_epsilon": 1e-6, "clip.vision.projection_dim": HIDDEN,
        "clip.vision.image_mean": [0.5] * 3, "clip.vision.image_std": [0.5] * 3,
        "clip.vision.projector.scale_factor": 2,
    }
    return write(name, "clip", keys, tensors)

def encode(text, path, rgb):
    """llama.cpp's features [tokens, hidden] of an image that has the tower's size already."""
    settings = mtmd.mtmd_context_params_default()
    settings.use_gpu = False
    context = mtmd.mtmd_init_from_file(path, text, settings)
    bitmap = mtmd.mtmd_bitmap_init(EDGE, EDGE, rgb.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
    marker, chunks = mtmd.mtmd_default_marker(), mtmd.mtmd_input_chunks_init()
    prompt = mtmd.mtmd_input_text(marker, len(marker), False, False)
    bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
    assert not mtmd.mtmd_tokenize(context, chunks, ctypes.byref(prompt), bitmaps, 1)
    image = mtmd.mtmd_input_chunks_get(chunks, 1)  # between <img> and </img>
    assert mtmd.mtmd_input_chunk_get_type(image) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
    assert mtmd.mtmd_input_chunk_get_n_tokens(image) == TOKENS
    assert not mtmd.mtmd_encode_chunk(context, image)
    return np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), (TOKENS, HIDDEN)).copy()

def compare(name, found, expected):
    cosine = np.sum(found * expected) / np.linalg.norm(found) / np.linalg.norm(expected)
    error = np.abs(found - expected).max()
    print(f"{name}: cosine {cosine:.7f}, max error {error:.4f} of {np.abs(expected).max():.2f}")
    return error

torch.manual_seed(0)
torch.set_grad_enabled(False)
model = InternVLModel(InternVLConfig(vision_config=VISION, text_config=TEXT)).eval()
for name, tensor in model.named_parameters():
    if name.endswith(("cls_token", "position_embeddings")):
        tensor.normal_()  # as large as the patches' embeddings
    elif tensor.dim() > 1:
        tensor.normal_(std=tensor[0].numel() ** -0.5)
text = llama_cpp.llama_model_load_from_file(write_text(), llama_cpp.llama_model_default_params())
rgb = np.random.default_rng(0).integers(0, 256, (EDGE, EDGE, 3), np.uint8)
pixels = (torch.from_numpy(rgb).float() / 255 - 0.5).permute(2, 0, 1)[None] / 0.5

positions = model.vision_tower.embeddings.position_embeddings  # [1, 1 + patches, hidden]
table = positions.clone()
expected = model.get_image_features(pixels).pooler_output[0].numpy()
as_is = encode(text, write_tower("as-is.gguf", model), rgb)
positions.copy_(table.roll(-1, dims=1))
rolled = encode(text, write_tower("rolled.gguf", model), rgb)
positions.copy_(table.roll(1, dims=1))
late = model.get_image_features(pixels).pooler_output[0].numpy()

wrong = compare("table as converted", as_is, expected)
right = compare("table rolled by one row", rolled, expected)
same = compare("table as converted, transformers one patch late", as_is, late)
if not (wrong > 5 * right and wrong > 5 * same):  # or NaN
    sys.exit("llama.cpp's positions have changed: see the head of the script")
PYTHON
cd "$work" # away from the caller's modules
venv/bin/python -I show.py "$work" 2>"$work/log" || { tail -n 20 "$work/log" >&2; exit 1; }
