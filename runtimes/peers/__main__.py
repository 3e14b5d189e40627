"""`python -m runtimes.peers [NAME…]`: makes the environments of other projects' programs.

Without names it makes all of them. An environment that cannot be made is one line, and the others
are made nevertheless.
"""

import sys
from collections.abc import Sequence

from export.errors import UserError, unknown
from runtimes.environments import make
from runtimes.peers.environments import ENVIRONMENTS


def main(names: Sequence[str]) -> int:
    """Makes the named environments, or all; returns 0, or 2 if one could not be made."""
    code = 0
    for name in names or ENVIRONMENTS:
        try:
            if name not in ENVIRONMENTS:
                raise unknown("environment", name, ENVIRONMENTS)
            python = make(ENVIRONMENTS[name], notify=lambda text: _say(f"{text}\n"))
            sys.stdout.write(f"{name}: {python.parent.parent}\n")
        except UserError as error:
            _say(f"error: {error}\n")
            code = 2
    return code


def _say(text: str) -> None:
    sys.stderr.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
