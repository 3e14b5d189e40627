"""Checks the header of a .pte file before ExecuTorch reads it."""

from pathlib import Path

from export.errors import UserError

IDENTIFIER = b"ET12"
"""At byte 4: flatbuffers' identifier of ExecuTorch's programs, with the version of their schema."""


def expect_program(path: Path) -> None:
    """Raises UserError for a file that is no program, or one of another version."""
    with path.open("rb") as file:
        found = file.read(8)[4:]
    if found == IDENTIFIER:
        return
    if found[:2] == IDENTIFIER[:2]:
        raise UserError(
            f"{path}: is a program of version {found.decode(errors='replace')}, and executorch "
            f"reads {IDENTIFIER.decode()}; export it again"
        )
    raise UserError(f"{path}: is not a program of ExecuTorch's; export it again")
