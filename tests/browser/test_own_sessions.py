"""Sessions of the runtime `browser` that cannot share a Chromium: other files, a sudden end."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from export.artifact import Artifact
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.base import RemoteSession, Request
from runtimes.proof.probes import probes

pytestmark = pytest.mark.browser

SHAPE = probes(64)[0]
REQUEST = Request(SHAPE.question, SHAPE.images, max_tokens=4)


@pytest.mark.parametrize(("recipe", "dtype"), [("int8", "q8"), ("int4", "q4"), ("fp32", "fp32")])
def test_a_page_that_names_a_dtype_finds_its_files(
    recipe: str, dtype: str, exported: Callable[[str], Artifact]
) -> None:
    artifact = exported(recipe)
    session: Any = RUNTIMES["browser"].open_session(artifact, threads=1)
    files = {name: facts.bytes for name, facts in artifact.manifest.files.items()}
    options = {"files": files, "device": "wasm", "threads": 1, "dtype": dtype}
    session.page.evaluate("([name, options]) => pocketvlm.open(name, options)", ["0", options])
    tokens = [event.token for event in session.generate(REQUEST) if event.kind == "token"]
    session.close()
    assert tokens == [315, 70, 415]


def test_a_browser_that_dies_is_an_error_of_one_line(artifact: Artifact) -> None:
    session = RUNTIMES["browser"].open_session(artifact, threads=1)
    assert isinstance(session, RemoteSession)
    events = session.generate(REQUEST)
    next(events)
    os.kill(session.processes[0], signal.SIGKILL)
    with pytest.raises(
        UserError, match="its process ended, usually because memory ran out"
    ) as found:
        list(events)
    session.close()
    assert "\n" not in str(found.value)


def test_other_tiles_than_the_artifacts_own_are_refused(artifact: Artifact) -> None:
    assert artifact.manifest.image is not None
    fewer = replace(artifact.manifest, image=replace(artifact.manifest.image, mean=(0.1, 0.1, 0.1)))
    with pytest.raises(UserError, match="--max-tiles does not reach"):
        RUNTIMES["browser"].open_session(replace(artifact, manifest=fewer), threads=1)
