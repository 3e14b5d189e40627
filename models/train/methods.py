"""What each way of rounding to 4 bits costs bundled twins, beside its bytes.

    python -m models.train.methods tiny-smolvlm tiny-gemma3 --task easy-vqa --task counting

Exports every twin by every method, puts the same test questions to all artifacts and to the
reference, and prints a table for each twin and target. Questions to calibrate with are of the train
splits. NOT aware of training or of how anything is rounded.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.analysis.paired import Paired, mcnemar, share_change
from bench.analysis.stats import proportion
from bench.tasks.scenes import GENERATORS
from export.__main__ import main as export
from export.arrays import FloatArray
from export.artifact import Artifact, load_artifact
from export.checkpoint.registry import open_model
from export.model import Model
from models.train.questions import EASY_VQA, write
from models.train.rounded import Asked, Asker, questions
from runtimes import RUNTIMES
from runtimes.proof.fidelity import divergence
from runtimes.reference import open_session

MODELS = Path(__file__).parents[1]
RUNTIME = {"onnx": "onnxruntime", "gguf": "llama_cpp"}
BASE = "int4-nearest"
METHODS: Mapping[str, tuple[str, ...]] = {
    "int8": ("--recipe", "int8"),
    BASE: ("--recipe", "int4", "--rounding", "nearest"),
    "int4": ("--recipe", "int4"),
    "int4-gptq": ("--recipe", "int4", "--calibrate", "QUESTIONS"),
    "iq4_nl": ("--recipe", "iq4_nl"),
    "q4_k_m": ("--recipe", "q4_k_m"),
    "int4-mixed": ("--recipe", "int4", "--calibrate", "QUESTIONS", "--budget-mb", "ROOM"),
}
LLAMA_CPP = frozenset({"iq4_nl", "q4_k_m"})
ROOM = 1.2
"""Bytes of the mixture by those of int4; beside `q4_k_m` it gets as many as that has."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Known:
    """A question with the reference's answer: whether it is right, its tokens, their logits."""

    asked: Asked
    right: bool
    ids: tuple[int, ...]
    logits: list[FloatArray]


@dataclass(frozen=True)
class Found:
    """Of one artifact: bytes; by question whether it was right; by token divergence, agreement."""

    size: int
    right: NDArray[np.bool_]
    klds: NDArray[np.float64]
    agree: NDArray[np.bool_]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    lines = write(arguments.out / "questions", arguments.task, arguments.images)
    ratios: dict[tuple[str, str], list[float]] = {}
    for twin in arguments.twin:
        model = open_model(str(MODELS / twin))
        known = _known(model, arguments.task, arguments.limit)
        for target in RUNTIME:
            found = {
                name: _measured(model, artifact, known)
                for name, artifact in _artifacts(twin, target, arguments.out, lines)
            }
            print(f"\n{twin}, {target}; the reference: {_right([one.right for one in known])}\n")
            for name, ratio_ in _table(found).items():
                ratios.setdefault((target, name), []).append(ratio_)
    print("\n| over all twins | mean KLD by nearest's, geometric mean | least | most |")
    print("|---|---:|---:|---:|")
    for (target, name), all_of in ratios.items():
        middle = float(np.exp(np.log(all_of).mean()))
        print(f"| {target} {name} | {middle:.2f} | {min(all_of):.2f} | {max(all_of):.2f} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.train.methods", description=__doc__)
    parser.add_argument("twin", nargs="+", help="folder of models/")
    parser.add_argument("--task", action="append", required=True, choices=[EASY_VQA, *GENERATORS])
    parser.add_argument("--limit", type=int, default=100, help="questions of each task")
    parser.add_argument("--images", type=int, default=16, help="to calibrate with, of each task")
    parser.add_argument("--out", type=Path, default=Path("build/methods"))
    return parser.parse_args()


def _known(model: Model, tasks: Sequence[str], limit: int) -> list[Known]:
    asker = Asker(model, open_session(model, threads=1))
    found = []
    for task in tasks:
        for asked in islice(questions(task), limit):
            answer, ids = asker.words(asked)
            found.append(Known(asked, answer == asked.answer, ids, asker.logits(asked, ids)))
    return found


def _artifacts(twin: str, target: str, out: Path, lines: Path) -> Iterator[tuple[str, Artifact]]:
    """By every method that the target has, one after the other."""
    sizes: dict[str, int] = {}
    for name, words in METHODS.items():
        if name in LLAMA_CPP and target != "gguf":
            continue
        room = sizes.get("q4_k_m", round(ROOM * sizes.get("int4", 0))) / 1e6
        values = {"QUESTIONS": str(lines), "ROOM": f"{room:.6f}"}
        folder = out / twin / f"{target}-{name}"
        how = [values.get(word, word) for word in words]
        with redirect_stdout(sys.stderr):
            source = [str(MODELS / twin), "--target", target]
            if export([*source, *how, "--no-verify", "--out", str(folder)]):
                raise SystemExit(f"{folder}: could not be exported")
        artifact = load_artifact(folder)
        sizes[name] = _bytes(artifact)
        yield name, artifact


def _bytes(artifact: Artifact) -> int:
    return artifact.manifest.total_bytes


def _measured(model: Model, artifact: Artifact, known: Sequence[Known]) -> Found:
    runtime = RUNTIMES[RUNTIME[artifact.manifest.target]]
    session = runtime.open_session(artifact, threads=1, device="cpu")
    asker = Asker(model, session)
    right, klds, agree = [], [], []
    for one in known:
        right.append(asker.words(one.asked)[0] == one.asked.answer)
        for p, q in zip(one.logits, asker.logits(one.asked, one.ids), strict=True):
            klds.append(divergence(p, q))
            agree.append(p.argmax() == q.argmax())
    session.close()
    return Found(_bytes(artifact), np.array(right), np.array(klds), np.array(agree))


def _table(found: Mapping[str, Found]) -> dict[str, float]:
    """Prints a line an artifact; returns each one's mean divergence by that of nearest."""
    base = found[BASE]
    print("| artifact | bytes | right | against nearest, points | p ", end="")
    print(f"| mean KLD, {len(base.klds):,} tokens | by nearest's | top-1 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    ratios = {}
    for name, one in found.items():
        ratios[name], low, high = ratio(base.klds, one.klds)
        print(
            f"| {name} | {one.size:,} | {_right(one.right)} | {_change(base.right, one.right)} "
            f"| {one.klds.mean():.5f} | {ratios[name]:.2f} [{low:.2f}, {high:.2f}] "
            f"| {one.agree.mean():.1%} |",
            flush=True,
        )
    return ratios


def _right(right: Sequence[bool] | NDArray[np.bool_]) -> str:
    share = proportion(int(np.sum(right)), len(right))
    assert share is not None
    assert share.low is not None
    assert share.high is not None
    return f"{share.value:.1%} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _change(base: NDArray[np.bool_], new: NDArray[np.bool_]) -> str:
    """Two cells: the difference with its interval, and McNemar's p."""
    pair: Paired | None = mcnemar(dict(enumerate(base)), dict(enumerate(new)))  # type: ignore[arg-type]
    assert pair is not None
    change = share_change(pair)
    assert change.low is not None
    assert change.high is not None
    ends = f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    return f"{100 * change.value:+.1f} {ends} | {pair.p:.2g}"


def ratio(
    base: NDArray[np.float64], new: NDArray[np.float64], seed: int = 0
) -> tuple[float, float, float]:
    """Of the means of paired samples [n], with its bootstrap's 95 % interval."""
    drawn = np.random.default_rng(seed).integers(0, len(base), (RESAMPLES, len(base)))
    low, high = np.percentile(new[drawn].mean(1) / base[drawn].mean(1), [2.5, 97.5])
    return float(new.mean() / base.mean()), float(low), float(high)


if __name__ == "__main__":
    main()
