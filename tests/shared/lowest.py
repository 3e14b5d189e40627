"""Prints the lowest declared version of every package as a pin for `pip install -c`.

`python tests/shared/lowest.py [NAME==VERSION …]`; pins that are given replace the lowest.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
BOUND = re.compile(r"(?P<name>[\w.-]+)>=(?P<version>[\w.]+)")
ITSELF = re.compile(r"pocket-vlm\[")
NOT_TOGETHER = ("cuda",)
"""Extras that are installed in place of others."""


def lowest(project: Mapping[str, Any]) -> dict[str, str]:
    """Name -> lowest version of every package that an extra or the project itself requires."""
    optional = project["optional-dependencies"]
    extras = [optional[extra] for extra in optional if extra not in NOT_TOGETHER]
    found: dict[str, str] = {}
    for requirement in [*project["dependencies"], *(each for extra in extras for each in extra)]:
        if not ITSELF.match(requirement):
            bound = BOUND.fullmatch(requirement)
            assert bound, f"{requirement}: expected NAME>=VERSION"
            name, version = bound["name"], bound["version"]
            assert found.setdefault(name, version) == version, f"{name} has two lowest versions"
    return found


def pins(versions: Mapping[str, str], given: Iterable[str]) -> list[str]:
    """Lines of a constraints file; those that are given replace others of the same name."""
    replaced = {pin.partition("==")[0]: pin for pin in given}
    own = {name: f"{name}=={version}" for name, version in versions.items()}
    return list((own | replaced).values())


def main() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    sys.stdout.write("\n".join(pins(lowest(project), sys.argv[1:])) + "\n")


if __name__ == "__main__":
    main()
