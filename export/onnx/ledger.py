"""Notes how each weight of a model is stored in the ONNX graphs of an artifact."""

from collections import Counter
from collections.abc import Sequence

from export.manifest import Fallback, Quantization, Share
from export.modeling.vlm import component


class Ledger:
    """Sums up how the weights of all graphs of an artifact are stored, for its Quantization.

    A weight in two graphs, such as a tied output head, counts once as parameters; its bytes count
    as often as they are written.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._sums: dict[str, Counter[str]] = {}
        self._types: Counter[str] = Counter()
        self._fallbacks: dict[str, Fallback] = {}

    def fell_back(self, names: Sequence[str], asked: str, got: str, reason: str) -> None:
        """Notes that the weights `{name}.weight` are stored as `got`, not as their recipe says."""
        for name in names:
            self._fallbacks[name] = Fallback(f"{name}.weight", asked, got, reason)

    def add(self, name: str, parameters: int, nbytes: int, kind: str, quantized: bool) -> None:
        sums = self._sums.setdefault(component(name), Counter())
        sums["weight_bytes"] += nbytes
        if name in self._known:
            return
        self._known.add(name)
        sums["parameters"] += parameters
        sums["quantized_parameters"] += parameters if quantized else 0
        self._types[kind] += parameters

    def result(self) -> Quantization:
        shares = {
            name: Share(s["parameters"], s["quantized_parameters"], s["weight_bytes"])
            for name, s in self._sums.items()
        }
        return Quantization.of(shares, dict(self._types), tuple(self._fallbacks.values()))
