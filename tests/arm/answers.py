"""What runtimes compute of artifacts, as arrays: run on two machines, to compare them.

    python tests/arm/answers.py RUNTIME OUT ARTIFACT…

writes OUT/<name of the artifact's folder>.npz. It needs numpy, Pillow, tokenizers and the runtime's
library, and this repository in PYTHONPATH.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.artifact import Artifact, load_artifact
from runtimes import RUNTIMES, Request, Session, load_image
from runtimes.prepare.request import Preparer, preparer_of
from runtimes.proof.probes import probes

TOKENS = 16
EXAMPLE = Path(__file__).parents[2] / "models" / "example.png"
Arrays = dict[str, NDArray[Any]]


def answers(artifact: Artifact, runtime: str) -> Arrays:
    """Arrays of each question, such as `0 ids`: the prompt's ids, `0 pixels 0`: an image of it,
    `0 tokens`: the greedy answer, `0 margins`: by how much the logit of each of its tokens exceeds
    every other one, and with a fixed answer `0 features` [image tokens, hidden] and `0 logits`
    [tokens, vocab]; of regions, `places` instead of tokens and margins."""
    session = RUNTIMES[runtime].open_session(artifact, threads=1)
    preparer, found = preparer_of(artifact), {}
    for number, (request, answer) in enumerate(questions(artifact)):
        forced = Request(
            request.question, request.images, answer=preparer.tokens(answer), arrays=True
        )
        of_one = prepared(preparer, request) | computed(session, forced) | chosen(session, request)
        found |= {f"{number} {name}": array for name, array in of_one.items()}
    session.close()
    return found


def questions(artifact: Artifact) -> Iterator[tuple[Request, str]]:
    """Those of a proof and one about the bundled picture, each with an answer to force."""
    most = artifact.manifest.prompt.most_images
    for probe in probes(64):
        if most is None or len(probe.images) <= most:
            yield Request(probe.question, probe.images, max_tokens=TOKENS), probe.answer
    example = (load_image(EXAMPLE),)
    yield Request("how many red shapes are there?", example, max_tokens=TOKENS), " 3"
    if "region" in artifact.manifest.components:
        yield Request("red circle", example, task="detect"), " 3"


def prepared(preparer: Preparer, request: Request) -> Arrays:
    made = preparer(request)
    return {"ids": made.ids, **{f"pixels {n}": image.values for n, image in enumerate(made.images)}}


def computed(session: Session, request: Request) -> Arrays:
    events = list(session.generate(request))
    features = [event.features for event in events if event.features is not None]
    logits = np.stack([event.logits for event in events if event.logits is not None])
    return {"logits": logits, **({"features": features[0]} if features else {})}


def chosen(session: Session, request: Request) -> Arrays:
    events = list(session.generate(replace(request, arrays=True)))
    if places := [event.region for event in events if event.kind == "place"]:
        return {"places": np.array(places)}
    best = [np.sort(event.logits)[-2:] for event in events if event.logits is not None]
    return {
        "tokens": np.array([event.token for event in events if event.kind == "token"]),
        "margins": np.array([first - second for second, first in best]),
    }


if __name__ == "__main__":
    for path in map(Path, sys.argv[3:]):
        found = answers(load_artifact(path), sys.argv[1])
        np.savez_compressed(Path(sys.argv[2], f"{path.name}.npz"), **found)
