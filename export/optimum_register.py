"""In an installation this is optimum/commands/register/pocketvlm.py, where Optimum looks."""

from export.optimum_command import REGISTER_COMMANDS

__all__ = ["REGISTER_COMMANDS"]
