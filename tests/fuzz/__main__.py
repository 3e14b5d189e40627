"""`make fuzz`: tries damaged inputs on every command, and prints a table of how they ended.

Exit code 0 if all ended well, 1 if there are findings. Findings are kept in build/fuzz.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from quiet import SETTINGS

from tests.fuzz.kills import VICTIMS, killed
from tests.fuzz.kinds import KINDS, inputs
from tests.fuzz.report import finding_lines, kill_lines, table
from tests.fuzz.sound import make_sound
from tests.fuzz.verdicts import SECONDS
from tests.fuzz.watch import FORK, Campaign, Tried, preload, tried

KEPT = Path("build/fuzz")
INPUTS_PER_KILL = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the campaign that the command line describes; returns the exit code."""
    arguments = _parser().parse_args(argv)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pocket-vlm-fuzz-") as name:
        folder = Path(os.path.realpath(name))
        cache = folder / "cache"
        folders = {
            "HF_HOME": "hub",
            "MPLCONFIGDIR": "plots",
            "TORCHINDUCTOR_CACHE_DIR": "inductor",  # torch keeps that of a process's first input
            "XDG_CACHE_HOME": "others",
        }
        os.environ |= SETTINGS | {name: f"{cache}/{part}" for name, part in folders.items()}
        sound = arguments.sound or _made(folder / "sound")
        preload()
        places = (sound, folder / "tries", KEPT.resolve(), cache)
        campaign = Campaign(arguments.seed, *places, arguments.seconds)
        chosen = inputs(arguments.n, arguments.only)
        found = _all(tried(campaign, chosen, arguments.jobs), len(chosen), arguments.seed)
        sys.stdout.write(table(found, time.monotonic() - started, arguments.seed))
        kills = 0 if arguments.only else _kills(arguments)
        ended = [
            killed(name, -(-kills // len(VICTIMS)), arguments.seed, sound, folder / f"kill {name}")
            for name in (VICTIMS if kills else ())
        ]
    sys.stdout.write(kill_lines(ended))
    return int(any(one.finding for one in found) or any(one.problems for one in ended))


def _kills(arguments: argparse.Namespace) -> int:
    """How often a command is killed: one kill for so many inputs, if not said otherwise."""
    return arguments.n // INPUTS_PER_KILL if arguments.kills is None else int(arguments.kills)


def _parser() -> argparse.ArgumentParser:
    it = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    it.add_argument("-n", type=int, default=500, help="number of inputs (default 500)")
    it.add_argument("--seed", type=int, default=1, help="decides all inputs (default 1)")
    it.add_argument(
        "--only", default="", help=f"a kind, or one input, KIND/NUMBER: {', '.join(KINDS)}"
    )
    limit = "an input that takes longer is a finding (default 60, for a machine that does no more)"
    it.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=limit)
    it.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="workers")
    kills = f"kills of an export, a calibration and a run (default N / {INPUTS_PER_KILL})"
    it.add_argument("--kills", type=int, help=kills)
    it.add_argument("--sound", type=Path, help="folder of sound inputs of an earlier campaign")
    return it


def _made(folder: Path) -> Path:
    """Makes the sound inputs in a process of its own, whose libraries' threads end with it."""
    child = FORK.Process(target=make_sound, args=(folder,))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit("the sound inputs could not be made, see above")
    return folder


def _all(endings: Iterator[Tried], count: int, seed: int) -> list[Tried]:
    found = []
    for one in endings:
        found.append(one)
        if one.finding:
            sys.stdout.write(finding_lines(one, seed))
            sys.stdout.flush()
        if len(found) % 100 == 0:
            sys.stderr.write(f"{len(found)} of {count}\n")
    return found


if __name__ == "__main__":
    sys.exit(main())
