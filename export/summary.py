"""Formats the summary that an export prints at its end: as a JSON object or as lines of text."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from export.artifact import Artifact
from export.decode import encode
from export.files import few
from export.manifest import Fallback, Manifest
from export.proof import Proof

VERDICTS = {True: "passed", False: "FAILED, kept by --allow-drift", None: "no verdict"}


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
    yield f"  bits per weight {quantization.bits_per_weight:.2f}: {_types(quantization.types)}"
    yield from _fallbacks(quantization.fallbacks)
    yield from (f"  note: {limit}" for limit in manifest.details.limits)
    yield from _proof(manifest.proof)
    with_proof = f", {cost.peak_bytes / 1e6:,.0f} MB with the proof" if manifest.proof else ""
    yield (
        f"  peak memory {cost.writing_peak_bytes / 1e6:,.0f} MB writing{with_proof}; "
        f"{cost.seconds:.1f} s"
    )


def _component_bytes(manifest: Manifest) -> dict[str, int]:
    return {
        name: sum(manifest.files[file].bytes for file in files)
        for name, files in manifest.components.items()
    }


def _types(types: Mapping[str, int]) -> str:
    every = sum(types.values()) or 1
    ordered = sorted(types.items(), key=lambda item: -item[1])
    return ", ".join(f"{100 * count / every:.1f} % {name}" for name, count in ordered)


def _fallbacks(fallbacks: Sequence[Fallback]) -> Iterator[str]:
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for fallback in fallbacks:
        groups[fallback.asked, fallback.got, fallback.reason].append(fallback.tensor)
    for (asked, got, reason), tensors in groups.items():
        yield f"  {got} instead of {asked}, {reason}: {few(tensors)}"


def _proof(proof: Proof | None) -> Iterator[str]:
    if proof is None:
        yield "  proof: not asked for"
        return
    why = f" ({proof.unjudged})" if proof.unjudged else ""
    yield f"  proof: {VERDICTS[proof.passed]}{why}"
    for failure in proof.failures:
        yield f"    ! {failure}"
    for name, check in proof.checks.by_name().items():
        figures = [(key, value) for key, value in vars(check).items() if value != ""]
        shown = ", ".join(f"{key.replace('_', ' ')} {_figure(value)}" for key, value in figures)
        yield f"    {name}: {shown}"


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
