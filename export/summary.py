"""What an export tells at its end, from its manifest. Pure. NOT aware of how it was made."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from export.artifact import Artifact
from export.files import few

Facts = Mapping[str, Any]


def summary(artifact: Artifact) -> dict[str, Any]:
    """One JSON object: path, bytes by component, realised bits, fallbacks, proof."""
    manifest = artifact.manifest
    sizes = {name: int(facts["bytes"]) for name, facts in manifest.files.items()}
    components = {
        name: sum(sizes[file] for file in files) for name, files in manifest.components.items()
    }
    return {
        "path": str(artifact.path),
        "model": manifest.model,
        "synthetic": manifest.synthetic,
        "target": manifest.target,
        "recipe": manifest.recipe,
        "layout": manifest.layout,
        "total_bytes": sum(sizes.values()),
        "component_bytes": components,
        "bits_per_weight": manifest.quantization["bits_per_weight"],
        "types": manifest.quantization["types"],
        "fallbacks": manifest.quantization["fallbacks"],
        "limits": manifest.details.get("limits", ()),
        "proof": manifest.proof,
    }


def lines(facts: Facts) -> Iterator[str]:
    """The same for people."""
    random = " (random weights)" if facts["synthetic"] else ""
    yield f"{facts['path']}{random}"
    rest = facts["total_bytes"] - sum(facts["component_bytes"].values())
    for name, size in (facts["component_bytes"] | {"other files": rest}).items():
        yield f"  {name:<15}{size:>15,} bytes"
    yield f"  {'all':<15}{facts['total_bytes']:>15,} bytes"
    yield f"  bits per weight {facts['bits_per_weight']:.2f}: {_types(facts['types'])}"
    yield from _fallbacks(facts["fallbacks"])
    yield from (f"  note: {limit}" for limit in facts["limits"])
    yield from _proof(facts["proof"])
    total = f", {facts['peak_bytes'] / 1e6:,.0f} MB with the proof" if facts["proof"] else ""
    yield (
        f"  peak memory {facts['writing_peak_bytes'] / 1e6:,.0f} MB writing{total}; "
        f"{facts['seconds']:.1f} s"
    )


def _types(types: Mapping[str, int]) -> str:
    every = sum(types.values()) or 1
    ordered = sorted(types.items(), key=lambda item: -item[1])
    return ", ".join(f"{100 * count / every:.1f} % {name}" for name, count in ordered)


def _fallbacks(fallbacks: Sequence[Facts]) -> Iterator[str]:
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for fallback in fallbacks:
        key = (fallback["asked"], fallback["got"], fallback["reason"])
        groups[key].append(fallback["tensor"])
    for (asked, got, reason), tensors in groups.items():
        yield f"  {got} instead of {asked}, {reason}: {few(tensors)}"


def _proof(proof: Facts | None) -> Iterator[str]:
    if proof is None:
        yield "  proof: not asked for"
        return
    word = {True: "passed", False: "FAILED, kept by --allow-drift", None: "no verdict"}
    why = f" ({proof['unjudged']})" if proof.get("unjudged") else ""
    yield f"  proof: {word[proof['passed']]}{why}"
    for failure in proof.get("failures", ()):
        yield f"    ! {failure}"
    for name, figures in proof.get("checks", {}).items():
        shown = ", ".join(f"{key.replace('_', ' ')} {_figure(v)}" for key, v in figures.items())
        yield f"    {name}: {shown}"


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
