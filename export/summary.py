"""Formats the summary that an export prints at its end: as a JSON object or as lines of text."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from export.artifact import Artifact
from export.bounds import BOUNDS
from export.decode import encode
from export.files import few
from export.manifest import Delegation, Fallback, Manifest, Quantization
from export.proof_lines import proof_lines
from export.quantize.recipe import Calibration

ONE_NAME = {"F32": "float32", "F16": "float16"}
"""Types of GGUF -> their names in ONNX: an artifact with files of both counts each type once."""


@dataclass(frozen=True)
class Cost:
    """Memory and time that the export process took.

    writing_peak_bytes: its peak memory before the proof. peak_bytes: its peak up to the end.
    """

    writing_peak_bytes: int
    peak_bytes: int
    seconds: float


def facts(artifact: Artifact, cost: Cost) -> dict[str, Any]:
    """Returns the summary for JSON: path, bytes by component, bits per weight, proof, cost, …"""
    manifest = artifact.manifest
    return {
        "path": str(artifact.path),
        "model": manifest.model,
        "synthetic": manifest.synthetic,
        "target": manifest.target,
        "recipe": manifest.recipe,
        "layout": manifest.layout,
        "total_bytes": manifest.total_bytes,
        "component_bytes": _component_bytes(manifest),
        "bits_per_weight": manifest.quantization.bits_per_weight,
        "types": manifest.quantization.types,
        "fallbacks": encode(manifest.quantization.fallbacks),
        "limits": manifest.details.limits,
        "executorch": encode(manifest.details.executorch),
        "proof": encode(manifest.proof),
        **encode(cost),
    }


def lines(artifact: Artifact, cost: Cost) -> Iterator[str]:
    """Yields the summary as lines of text for people."""
    manifest = artifact.manifest
    random = " (random weights)" if manifest.synthetic else ""
    yield f"{artifact.path}{random}"
    sizes = _component_bytes(manifest)
    rest = manifest.total_bytes - sum(sizes.values())
    for name, size in (sizes | {"other files": rest}).items():
        yield f"  {name:<15}{size:>15,} bytes"
    yield f"  {'all':<15}{manifest.total_bytes:>15,} bytes"
    quantization = manifest.quantization
    yield f"  {types_line(quantization)}"
    yield from (f"  {line}" for line in calibration_lines(manifest.recipe_used.calibrated))
    yield from _fallbacks(quantization.fallbacks)
    if manifest.details.executorch is not None:
        yield from (f"  {line}" for line in delegation_lines(manifest.details.executorch.methods))
    yield from (f"  note: {limit}" for limit in manifest.details.limits)
    bounds = BOUNDS[manifest.recipe_used.base]
    yield from (f"  {line}" for line in proof_lines(manifest.proof, bounds))
    with_proof = f", {cost.peak_bytes / 1e6:,.0f} MB with the proof" if manifest.proof else ""
    yield (
        f"  peak memory {cost.writing_peak_bytes / 1e6:,.0f} MB writing{with_proof}; "
        f"{cost.seconds:.1f} s"
    )


def _component_bytes(manifest: Manifest) -> dict[str, int]:
    """Returns the bytes of each component's files; components that share them are one row."""
    names: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, files in manifest.components.items():
        names[files].append(name)
    return {
        ", ".join(sharing): sum(manifest.files[file].bytes for file in files)
        for files, sharing in names.items()
    }


def types_line(quantization: Quantization) -> str:
    """Returns the bits per weight and the share of weights of each type, largest first."""
    counts: Counter[str] = Counter()
    for name, count in quantization.types.items():
        counts[ONE_NAME.get(name, name)] += count
    every = counts.total() or 1
    shares = (f"{100 * count / every:.1f} % {name}" for name, count in counts.most_common())
    return f"bits per weight {quantization.bits_per_weight:.2f}: {', '.join(shares)}"


def calibration_lines(calibrated: Calibration | None) -> Iterator[str]:
    """Yields a line on the questions that GPTQ was calibrated on; none if it was not used."""
    if calibrated is None:
        return
    own = "PocketVLM's own questions"
    asked = own if calibrated.n is None else f"{calibrated.n} questions of {calibrated.questions}"
    yield f"4-bit weights were rounded with GPTQ, calibrated on {asked}"


def delegation_lines(methods: Mapping[str, Delegation]) -> Iterator[str]:
    """Yields two lines for each method: what of it XNNPACK runs, and what it does not."""
    for name, found in methods.items():
        operators = found.delegated_operators / (found.operators or 1)
        weights = found.delegated_weight_bytes / (found.weight_bytes or 1)
        yield (
            f"{name}: XNNPACK runs {100 * operators:.0f} % of {found.operators} operators, with "
            f"{100 * weights:.0f} % of the weight bytes, in {found.calls} calls"
        )
        if found.outside:
            outside = ", ".join(f"{count} {kind}" for kind, count in found.outside.items())
            yield f"  outside of XNNPACK: {outside}"


def _fallbacks(fallbacks: Sequence[Fallback]) -> Iterator[str]:
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for fallback in fallbacks:
        groups[fallback.asked, fallback.got, fallback.reason].append(fallback.tensor)
    for (asked, got, reason), tensors in groups.items():
        yield f"  {got} instead of {asked}, {reason}: {few(tensors)}"
