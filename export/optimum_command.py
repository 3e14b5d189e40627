"""`optimum-cli export pocketvlm`: what `python -m export` does, where users of Optimum look for it.

Loaded by Optimum whenever its command line starts, so nothing heavy is imported. NOT aware of how
an export is made.
"""

import argparse
import sys
from pathlib import Path

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from export.__main__ import add_options, execute


class PocketVlmExport(BaseOptimumCLICommand):  # type: ignore[misc] # Optimum has no annotations
    """The subcommand; `args` are the parsed arguments."""

    COMMAND = CommandInfo("pocketvlm", "Export a vision-language model with PocketVLM.")

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        """Adds the arguments: those of `python -m export`, model and place as Optimum has them."""
        parser.description = "Export a vision-language model, proven and described, to OUT."
        known = "a checkpoint's folder, or a name in PocketVLM's models.yaml"
        parser.add_argument("-m", "--model", required=True, metavar="DIR|MODEL", help=known)
        parser.add_argument("out", type=Path, metavar="OUT", help="the artifact's folder")
        add_options(parser)

    def run(self) -> None:
        """Exports; leaves with the exit code of `python -m export` where that is not 0."""
        if code := execute(self.args):
            sys.exit(code)


REGISTER_COMMANDS = [(PocketVlmExport, ExportCommand)]
