"""The content of artifact.json as dataclasses; its keys are the names of their fields."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from export.images import ImageRecipe
from export.modeling.vlm import Vlm
from export.prompts import PromptRecipe
from export.proof import Proof
from export.quantize.recipe import RecipeUsed

MANIFEST = "artifact.json"
SCHEMA = 2


@dataclass(frozen=True)
class FileFacts:
    """Size and hexadecimal SHA-256 of one file of an artifact."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Share:
    """Sums over the tensors of one component (vision, embedding, decoder or region heads).

    They count all its weights, those that were quantized, and the bytes of all in the file.
    """

    parameters: int
    quantized_parameters: int
    weight_bytes: int


@dataclass(frozen=True)
class Fallback:
    """A tensor stored in another type (`got`) than the recipe says (`asked`), and the reason."""

    tensor: str
    asked: str
    got: str
    reason: str


@dataclass(frozen=True)
class Quantization:
    """How the weights of an artifact are stored.

    bits_per_weight: the average over all weights. components: component -> sums over its tensors.
    types: type in the file (Q4_0, MatMulNBits 4, float32, …) -> number of weights stored in it.
    fallbacks: the tensors that are not stored as the recipe says.
    """

    bits_per_weight: float
    components: Mapping[str, Share]
    types: Mapping[str, int]
    fallbacks: tuple[Fallback, ...]

    @classmethod
    def of(
        cls,
        components: Mapping[str, Share],
        types: Mapping[str, int],
        fallbacks: tuple[Fallback, ...],
    ) -> "Quantization":
        """Makes a Quantization whose `bits_per_weight` is computed from `components`."""
        shares = components.values()
        bits = 8 * sum(s.weight_bytes for s in shares) / sum(s.parameters for s in shares)
        return cls(bits, components, types, fallbacks)

    def beside(self, other: "Quantization") -> "Quantization":
        """Merges two descriptions of one artifact that have no component in common."""
        return Quantization.of(
            {**self.components, **other.components},
            dict(Counter(self.types) + Counter(other.types)),
            self.fallbacks + other.fallbacks,
        )


@dataclass(frozen=True)
class OnnxDetails:
    """The operator sets that a program needs to run the ONNX graphs of an artifact.

    opsets: operator domain ("ai.onnx" is the default one) -> version.
    """

    opsets: Mapping[str, int]


@dataclass(frozen=True)
class GgufDetails:
    """llama.cpp's names of the architectures in an artifact's GGUF files.

    arch: of the decoder. projector: of the vision file (mmproj); None: there is no such file.
    """

    arch: str
    projector: str | None = None


@dataclass(frozen=True)
class Delegation:
    """What of one method of an ExecuTorch program its backend XNNPACK runs.

    calls: how many times a pass calls XNNPACK. operators: of the method's graph, and those of them
    that XNNPACK runs. weight_bytes: in memory before packing, and those of them that XNNPACK reads.
    outside: operator that ExecuTorch's own kernels run -> how often a pass runs it.
    """

    calls: int
    operators: int
    delegated_operators: int
    weight_bytes: int
    delegated_weight_bytes: int
    outside: Mapping[str, int]


@dataclass(frozen=True)
class ExecutorchDetails:
    """What a program needs to run an ExecuTorch artifact, and what runs where.

    context: positions of the key-value cache, and new_positions: the most that one call of the
    decoder takes; both are fixed when the program is made. libraries: whose operators it uses
    besides ExecuTorch's own, "llama" or "quantized". methods: method -> Delegation.
    """

    context: int
    new_positions: int
    libraries: tuple[str, ...]
    methods: Mapping[str, Delegation]


@dataclass(frozen=True)
class Details:
    """Facts about an artifact that depend on its format.

    onnx, gguf, executorch: None if the artifact has no file of that format. limits: what programs
    that load it cannot do, or compute differently from the model's own code, and what the
    checkpoint lacks, a line each.
    """

    limits: tuple[str, ...] = ()
    onnx: OnnxDetails | None = None
    gguf: GgufDetails | None = None
    executorch: ExecutorchDetails | None = None

    def beside(self, other: "Details") -> "Details":
        """Merges two: keeps the limits of both, and what `other` says of its formats.

        If one of these is None in `other`, it keeps that of self.
        """
        return replace(
            self,
            limits=self.limits + other.limits,
            onnx=other.onnx or self.onnx,
            gguf=other.gguf or self.gguf,
            executorch=other.executorch or self.executorch,
        )


def signed_name(graph: str) -> str:
    """Returns the name of the file beside an .onnx file whose products take signed weights
    (export.onnx.signed)."""
    return f"{graph.removesuffix('.onnx')}_signed.onnx"


@dataclass(frozen=True)
class Manifest:
    """The content of one artifact.json: which model was exported, how, and the proof's result.

    files are keyed by their path in the folder. components maps a component to its files. tools
    maps a package that took part to its version. proof None: no proof was run.
    """

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
    """All but artifact.json itself."""
    components: Mapping[str, tuple[str, ...]]
    quantization: Quantization
    details: Details
    tools: Mapping[str, str]
    proof: Proof | None

    @property
    def total_bytes(self) -> int:
        """Bytes of all files of the artifact together, without artifact.json."""
        return sum(file.bytes for file in self.files.values())
