"""`bench peers`: builds a model with onnxruntime-genai, so that `bench run` can measure it too.

It writes build/MODEL/genai-RECIPE: only the text decoder, because onnxruntime-genai's model builder
makes no vision tower for these families. llama.cpp needs no such build: the hidden runtime
`llama_bench` runs PocketVLM's GGUF files in a bare loop.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from dataclasses import MISSING, fields
from pathlib import Path

from export.build import ExportSpec, build
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.families import FAMILIES
from export.manifest import Quantization, Share
from export.model import Model
from export.modeling.decoder import Decoder
from export.modeling.vlm import component
from export.quantize.recipe import RECIPES, Recipe
from export.target import Target, Written


def write_genai(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Build the model's text decoder with onnxruntime_genai.models.builder into a folder.

    Uses the builder's defaults for a CPU; `layout` is ignored. Raises UserError if it fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        _write_decoder_checkpoint(model, checkpoint)
        command = ["-i", checkpoint, "-o", folder, "-p", recipe.name, "-e", "cpu", "-c", scratch]
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", *map(str, command)]
        done = subprocess.run(builder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"onnxruntime-genai's builder failed: {done.stderr.strip()[-300:]}")
    size = sum(path.stat().st_size for path in folder.glob("model.onnx*"))
    shapes = model.weights.shapes()
    parameters = sum(math.prod(shapes[name]) for name in _decoder_names(model))
    shares = {"decoder": Share(parameters, 0, size)}
    kinds = {f"as onnxruntime-genai builds {recipe.name}": parameters}
    files = tuple(path.name for path in sorted(folder.iterdir()))
    return Written({"decoder": files}, Quantization.of(shares, kinds, ()))


GENAI = Target(layouts=("native",), write=write_genai)


def _decoder_names(model: Model) -> dict[str, str]:
    """Map our name of each text tensor to its name in a checkpoint of LlamaForCausalLM."""
    sources = FAMILIES[model.vlm.family].sources(model.vlm)
    return {
        name: source.name.replace("model.text_model.", "model.")
        for name, source in sources.items()
        if component(name) != "vision"
    }


def _expect_llama(text: Decoder) -> None:
    """Raise UserError unless the decoder is a Llama: no optional field differs from its default."""
    for field in fields(text):
        if field.default is not MISSING and getattr(text, field.name) != field.default:
            raise UserError(
                f"the decoder has {field.name}, but genai builds only Llama's decoder here"
            )


def _write_decoder_checkpoint(model: Model, folder: Path) -> None:
    """Write the text decoder alone to a folder, as transformers would save it."""
    from safetensors.numpy import save_file
    from transformers import LlamaConfig

    text = model.vlm.text
    _expect_llama(text)
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=text.vocab,
        hidden_size=text.hidden,
        intermediate_size=text.intermediate,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        num_key_value_heads=text.kv_heads,
        head_dim=text.head_dim,
        max_position_embeddings=text.context,
        rms_norm_eps=text.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": text.rope_theta},
        tie_word_embeddings=text.tied,
        dtype="float32",
    )
    config.save_pretrained(folder)
    names = _decoder_names(model)
    tensors = {hub: model.weights.read(name) for name, hub in names.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if name in model.files:
            (folder / name).write_bytes(model.files[name])


def run(arguments: argparse.Namespace) -> int:
    """Build one model with onnxruntime-genai and print its folder; returns 0."""
    model = open_model(arguments.model, weights=arguments.weights)
    out = Path("build") / model.name / f"genai-{arguments.recipe}"
    spec = ExportSpec("genai", RECIPES[arguments.recipe], "native")
    build(model, spec, out, targets={"genai": GENAI})
    sys.stdout.write(f"{out}\n")
    return 0
