"""Damaged GGUF files opened by the llama_cpp runtime, each in a process of its own.

`python tests/shared/gguf_fuzz.py ARTIFACT COMPONENT FIRST COUNT`: seeds FIRST … FIRST + COUNT - 1
each change bytes of the component's header; prints one JSON object. A fork a file: what ends a
process natively ends only that one.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from PIL import Image

from export.artifact import Artifact, load_artifact
from export.errors import UserError
from runtimes.base import Request
from runtimes.llama_cpp.files import read_header
from runtimes.llama_cpp.session import open_session
from tests.fuzz.mutations import damaged_header

OPENED, REFUSED, RAISED = 0, 10, 11
SECONDS = 20
IMAGE = Image.linear_gradient("L").resize((40, 30)).convert("RGB")


def outcome(artifact: Artifact) -> int:
    """Opens it and asks something, in a fork: exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        code = RAISED
        try:
            session = open_session(artifact, threads=1)
            list(session.generate(Request("what is it?", (IMAGE,), max_tokens=2)))
            code = OPENED
        except UserError as error:
            code = REFUSED if "\n" not in str(error) else RAISED
        except Exception as error:
            sys.stderr.write(f"{type(error).__name__} {error}\n")
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """The command."""
    artifact = load_artifact(Path(sys.argv[1]))
    part, first, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    counts: dict[str, int] = {}
    died: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(artifact.path, Path(name) / "artifact"))
        path = folder / artifact.manifest.components[part][0]
        content = path.read_bytes()
        header = min(tensor.start for tensor in read_header(path).tensors.values())
        for seed in range(first, first + count):
            path.write_bytes(damaged_header(random.Random(seed), content, header))
            code = outcome(Artifact(folder, artifact.manifest))
            if code not in (OPENED, REFUSED):
                died.append((seed, code))
            counts[str(code)] = counts.get(str(code), 0) + 1
    sys.stdout.write(json.dumps({"counts": counts, "died": died}) + "\n")


if __name__ == "__main__":
    main()
