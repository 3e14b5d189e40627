"""The error for mistakes of the user: it says what was found, what was expected, what to do."""

import difflib
import errno
from collections.abc import Iterable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a disk without room, and of a user's share of it without room."""


class UserError(Exception):
    """Raised for what the user can fix. Commands print it as one line and exit with code 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Returns the error for a `name` that is not among the `known` ones; suggests similar ones.

    `kind` says what is named, for example "model".
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UserError(f"unknown {kind} '{name}'; {hint}")
