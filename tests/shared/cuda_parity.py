"""What a GPU answers with the tiny models, beside what the CPU answers: made here, run there.

    python tests/shared/cuda_parity.py make FOLDER    on any machine: exports, and the CPU's answers
    python tests/shared/cuda_parity.py run FOLDER     on a machine with a GPU

`run` needs no more than numpy, Pillow, tokenizers and onnxruntime-gpu, and this repository in
PYTHONPATH. It prints a line of JSON a case and exits with 1 if one failed.
"""

import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.artifact import load_artifact
from runtimes.base import Request, Session
from runtimes.onnxruntime.session import open_session
from runtimes.proof.fidelity import Accumulator
from runtimes.proof.probes import probes

MODELS = ("tiny-smolvlm", "tiny-moondream", "tiny-qwen2.5-vl", "tiny-gemma3")
RECIPES = ("fp16", "int8", "int4")
LARGEST_KLD = 1e-3
ANSWER = tuple(range(20, 30))
TOKENS = 24


def requests() -> Iterator[Request]:
    """Each with an image or none; the second goes on behind what the first left in the cache."""
    for probe in (probe for probe in probes(64) if len(probe.images) < 2):
        yield Request(probe.question, probe.images, max_tokens=TOKENS)


def forced(session: Session) -> NDArray[np.float32]:
    """Logits [requests * tokens, vocab] behind fixed answers."""
    found = []
    for request in requests():
        asked = Request(request.question, request.images, answer=ANSWER, arrays=True)
        found += [event.logits for event in session.generate(asked) if event.logits is not None]
    return np.stack(found)


def greedy(session: Session) -> list[list[int]]:
    """The tokens of each answer."""
    return [
        [event.token for event in session.generate(request) if event.token is not None]
        for request in requests()
    ]


def places(session: Session) -> list[Any]:
    """Of a model that answers with places: those of one image."""
    image = probes(64)[0].images
    events = session.generate(Request("shape", image, task="detect"))
    return [event.region for event in events if event.kind == "place"][:2]


def answers(session: Session, model: str) -> dict[str, Any]:
    """All that is compared."""
    found = {"logits": forced(session), "tokens": greedy(session)}
    if model == "tiny-moondream":
        found["places"] = np.array(places(session))
    return found


def make(folder: Path) -> None:
    """Artifacts of every model and recipe, and the CPU's answers: of layout native in float32, and
    of each artifact itself."""
    for model in MODELS:
        with tempfile.TemporaryDirectory() as place:
            exact = Path(place) / "exact"
            export(model, "fp32", "native", exact)
            found = answers(open_session(load_artifact(exact), threads=2), model)
            save(folder / f"{model}.npz", found)
        for recipe in RECIPES:
            path = folder / f"{model}-{recipe}"
            export(model, recipe, "cuda", path)
            session = open_session(load_artifact(path), threads=2)
            save(folder / f"{model}-{recipe}.npz", answers(session, model))


def export(model: str, recipe: str, layout: str, path: Path) -> None:
    words = ["export", model, "--target", "onnx", "--recipe", recipe, "--layout", layout]
    words += ["--out", str(path), "--allow-drift", "--no-verify"]
    subprocess.run([sys.executable, "-m", *words], check=True)


def save(path: Path, found: dict[str, Any]) -> None:
    tokens = (
        json.dumps(found["tokens"]) if not isinstance(found["tokens"], str) else found["tokens"]
    )
    np.savez_compressed(path, **{**found, "tokens": np.array(tokens)})


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {name: stored[name] if stored[name].ndim else str(stored[name]) for name in stored}


def divergence(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Mean KLD over the positions."""
    accumulator = Accumulator()
    for p, q in zip(expected, found, strict=True):
        accumulator.add(p, q)
    result = accumulator.result()
    assert result is not None
    return result.mean_kld


def compared(folder: Path, model: str, recipe: str, device: str, capture: bool) -> dict[str, Any]:
    """One artifact on the device: how far it is from itself on the CPU, and from the model."""
    began = time.perf_counter()
    artifact = load_artifact(folder / f"{model}-{recipe}")
    session = open_session(artifact, threads=1, device=device, capture=capture)
    loaded = time.perf_counter()
    found = answers(session, model)
    own, exact = load(folder / f"{model}-{recipe}.npz"), load(folder / f"{model}.npz")
    equal = [a == b for a, b in zip(found["tokens"], json.loads(own["tokens"]), strict=True)]
    kld, of_model = (divergence(x["logits"], found["logits"]) for x in (own, exact))
    row = {
        "kld": kld,
        "kld_of_model": of_model,
        "greedy_equal": sum(equal),
        "greedy": len(equal),
        "tokens": found["tokens"],
        "load_s": round(loaded - began, 2),
        "run_s": round(time.perf_counter() - loaded, 2),
    }
    if "places" in found:
        row["places"] = float(np.abs(found["places"] - own["places"]).max())
    row["passed"] = kld <= LARGEST_KLD and (recipe != "fp16" or of_model <= LARGEST_KLD)
    session.close()
    return row


def tell(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def run(folder: Path, device: str) -> bool:
    """Every case, whatever fails; the last line says how many passed."""
    onnxruntime.set_default_logger_severity(3)
    tell({"onnxruntime": onnxruntime.__version__, "device": device})
    rows = []
    for model in MODELS:
        for recipe in RECIPES:
            before: list[list[int]] | None = None
            for capture in (False, True):
                row: dict[str, Any] = {"model": model, "recipe": recipe, "captured": capture}
                try:
                    row |= compared(folder, model, recipe, device, capture)
                except Exception as error:
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    said = f"{type(error).__name__}: {error}"[:600]
                    row |= {"passed": False, "error": said, "at": f"{where.name}:{where.lineno}"}
                tokens = row.pop("tokens", None)
                if capture and before is not None:
                    row["as_uncaptured"] = tokens == before
                    row["passed"] = row["passed"] and tokens == before
                before = tokens
                rows.append(row)
                tell(row)
    passed = sum(row["passed"] for row in rows)
    tell({"cases": len(rows), "passed": passed})
    return passed == len(rows)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in ("make", "run"):
        sys.exit(__doc__)
    place = Path(sys.argv[2])
    if sys.argv[1] == "make":
        place.mkdir(parents=True, exist_ok=True)
        make(place)
    elif not run(place, sys.argv[3] if len(sys.argv) == 4 else "cuda"):
        sys.exit(1)
