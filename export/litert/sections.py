"""Converts networks to .tflite models, and rounds their weights."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from export.library_log import kept
from export.litert.library import litert_torch, quantizer, recipes
from export.litert.networks import Signature


def convert(signatures: Mapping[str, Signature], path: Path) -> None:
    """Writes a .tflite model with these signatures, which share their weights."""
    with kept(1, 2), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch and jax, about their own old names
        converter = litert_torch
        for name, entry in signatures.items():
            converter = converter.signature(
                name, entry.module.eval(), sample_kwargs=dict(entry.inputs)
            )
        converter.convert().export(str(path))


def round_to_8_bits(path: Path) -> None:
    """Rounds the matrices of a .tflite model to 8 bits, with a scale for each row.

    LiteRT's kernels round the activations of these matrices, too, whenever they run.
    """
    with kept(1, 2):
        rounding = quantizer.Quantizer(str(path))
        rounding.load_quantization_recipe(recipes.dynamic_wi8_afp32())
        rounding.quantize().export_model(str(path), overwrite=True)
