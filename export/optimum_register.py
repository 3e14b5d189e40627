"""Registers the Optimum subcommand: installed as optimum/commands/register/pocketvlm.py."""

from export.optimum_command import REGISTER_COMMANDS

__all__ = ["REGISTER_COMMANDS"]
