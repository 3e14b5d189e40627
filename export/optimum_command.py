"""Makes `python -m export` available as `optimum-cli export pocketvlm` (Hugging Face Optimum).

Optimum imports this module whenever its command line starts, so it imports nothing heavy.
"""

import argparse
import sys
from pathlib import Path

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from export.__main__ import add_options, execute
from export.console import on_console


class PocketVlmExport(BaseOptimumCLICommand):  # type: ignore[misc] # Optimum has no annotations
    """The subcommand `optimum-cli export pocketvlm`; `self.args` has its parsed arguments."""

    COMMAND = CommandInfo("pocketvlm", "Export a vision-language model with PocketVLM.")

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        """Adds to `parser` the options of `python -m export`.

        The model is given as -m and the output folder last, as in Optimum's other commands.
        """
        parser.description = (
            "Export a vision-language model to the folder OUT and prove the result."
        )
        known = "the folder of a checkpoint, or a name in PocketVLM's models.yaml"
        parser.add_argument("-m", "--model", required=True, metavar="DIR|MODEL", help=known)
        parser.add_argument("out", type=Path, metavar="OUT", help="folder of the artifact")
        add_options(parser)

    def run(self) -> None:
        """Runs the export; on failure, exits the process with the code of `python -m export`."""
        if code := on_console(lambda: execute(self.args)):
            sys.exit(code)


REGISTER_COMMANDS = [(PocketVlmExport, ExportCommand)]
