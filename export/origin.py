"""Compares where weights come from: by digests, because two models may have the same name.

An origin is what artifact.json has under that key. Its `files` map each file that was read to its
bytes and SHA-256; it also names the hub's repository and commit, or the seed of random weights.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Origin = Mapping[str, Any]


def identity(origin: Origin) -> str:
    """Returns a hexadecimal SHA-256 that is equal for equal files and random weights.

    Where the files came from does not count, unless their digests are not known.
    """
    content = {key: origin[key] for key in ("files", "synthetic") if key in origin} or dict(origin)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def difference(recorded: Origin, found: Origin) -> str | None:
    """Says in words how the model `found` differs from the `recorded` one; None if it does not.

    Compares what `recorded` states: older artifacts state less.
    """
    if ("synthetic" in recorded) != ("synthetic" in found):
        return "one has random weights, the other has not"
    if "files" in recorded:
        return _files(recorded["files"], found.get("files", {})) or _rest(
            recorded, found, ("synthetic",)
        )
    return _rest(recorded, found, tuple(recorded))


def _files(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    for name, facts in recorded.items():
        other = found.get(name, {}).get("sha256", "missing")
        if other != facts["sha256"]:
            return f"{name} is {other[:12]}, expected {facts['sha256'][:12]} (SHA-256)"
    return None


def _rest(recorded: Origin, found: Origin, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        if recorded.get(key) != found.get(key):
            return f"{key} is {found.get(key, 'not known')}, expected {recorded.get(key)}"
    return None
