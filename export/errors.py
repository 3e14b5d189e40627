"""The one kind of error a user is meant to see: what was found, what was expected, what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. Command lines print it as one line and exit with code 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """An error for a name that is not in a table, offering the nearest ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UserError(f"unknown {kind} '{name}'; {hint}")
