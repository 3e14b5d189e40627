"""What artifact.json holds. Its keys are the names of these fields."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from export.images import ImageRecipe
from export.modeling.vlm import Vlm
from export.prompts import PromptRecipe
from export.proof import Proof
from export.quantize.recipe import RecipeUsed

SCHEMA = 2


@dataclass(frozen=True)
class FileFacts:
    """One file of an artifact."""

    bytes: int
    sha256: str
    """Hexadecimal."""


@dataclass(frozen=True)
class Share:
    """What became of one component's weights: sums over its tensors."""

    parameters: int
    quantized_parameters: int
    weight_bytes: int


@dataclass(frozen=True)
class Fallback:
    """A tensor that is not stored as its recipe says, and why."""

    tensor: str
    asked: str
    got: str
    reason: str


@dataclass(frozen=True)
class Quantization:
    """What the recipe became: bits per weight, types, and every exception."""

    bits_per_weight: float
    components: Mapping[str, Share]
    types: Mapping[str, int]
    """Type in the file (Q4_0, MatMulNBits 4, float32, …) -> parameters stored in it."""
    fallbacks: tuple[Fallback, ...]

    @classmethod
    def of(
        cls,
        components: Mapping[str, Share],
        types: Mapping[str, int],
        fallbacks: tuple[Fallback, ...],
    ) -> "Quantization":
        """With the bits per weight that follow from the components."""
        shares = components.values()
        bits = 8 * sum(s.weight_bytes for s in shares) / sum(s.parameters for s in shares)
        return cls(bits, components, types, fallbacks)

    def beside(self, other: "Quantization") -> "Quantization":
        """Of both; no component is in both."""
        return Quantization.of(
            {**self.components, **other.components},
            dict(Counter(self.types) + Counter(other.types)),
            self.fallbacks + other.fallbacks,
        )


@dataclass(frozen=True)
class OnnxDetails:
    """What a program must have to run the ONNX graphs of an artifact."""

    opsets: Mapping[str, int]
    """Operator domain ("ai.onnx" is the default one) -> version."""


@dataclass(frozen=True)
class GgufDetails:
    """llama.cpp's names of what is in the GGUF files of an artifact."""

    arch: str
    projector: str | None = None
    """None: the artifact has no mmproj file."""


@dataclass(frozen=True)
class Details:
    """What is particular to a target. None: the artifact has no files of that kind."""

    limits: tuple[str, ...] = ()
    """What its clients cannot do, or compute differently from the model's own code; a line each."""
    onnx: OnnxDetails | None = None
    gguf: GgufDetails | None = None

    def beside(self, other: "Details") -> "Details":
        """Of both; where both have files of a kind, the other's details."""
        return replace(
            self,
            limits=self.limits + other.limits,
            onnx=other.onnx or self.onnx,
            gguf=other.gguf or self.gguf,
        )


@dataclass(frozen=True)
class Manifest:
    """The description of one artifact."""

    schema: int
    model: str
    """Name in models.yaml, or the folder's name for a local checkpoint."""
    origin: Mapping[str, Any]
    """Weights.origin: hub id and revision, or files' digests, or the seed of synthetic weights."""
    synthetic: bool
    vlm: Vlm
    image: ImageRecipe | None
    prompt: PromptRecipe
    target: str
    recipe: str
    """The name of `recipe_used`."""
    recipe_used: RecipeUsed
    layout: str
    files: Mapping[str, FileFacts]
    """By path in the folder; artifact.json itself is not listed."""
    components: Mapping[str, tuple[str, ...]]
    """Component -> its files."""
    quantization: Quantization
    details: Details
    tools: Mapping[str, str]
    """Package -> version, of those that took part."""
    proof: Proof | None
    """None: the export was not verified."""

    @property
    def total_bytes(self) -> int:
        """Of all files but artifact.json."""
        return sum(file.bytes for file in self.files.values())
