"""Notes how each weight of a model is stored in an ExecuTorch program."""

from collections import Counter

from export.manifest import Quantization, Share
from export.modeling.vlm import COMPONENTS


class Ledger:
    """Collects parameters and bytes of the weights of a model while they are packed."""

    def __init__(self) -> None:
        self._parameters: Counter[str] = Counter()
        self._quantized: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._types: Counter[str] = Counter()

    def add(self, part: str, parameters: int, kind: str, nbytes: int) -> None:
        """Notes a weight of a component: how many values, of which type, in how many bytes.

        `part` is one of COMPONENTS; `kind` is the type in the file, such as float32.
        """
        self._parameters[part] += parameters
        self._bytes[part] += nbytes
        self._types[kind] += parameters
        if kind != "float32":
            self._quantized[part] += parameters

    def result(self) -> Quantization:
        """Returns the sums over all weights noted."""
        shares = {
            part: Share(self._parameters[part], self._quantized[part], self._bytes[part])
            for part in COMPONENTS
            if self._parameters[part]
        }
        return Quantization.of(shares, dict(self._types), ())
