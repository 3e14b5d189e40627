"""Trains the four twins of all tasks at the same time on one GPU, each a process of its own.

    python -m models.train all --pool build/pool --out build/twins --step-seconds 150

draws the pictures if they are not there, starts `pooled` for every family, waits until all of them
step, and from how fast they do so beside each other tells each a number of steps for that many
seconds. `--steps smolvlm=4000 …` gives the numbers instead: that is how a result is made again. NOT
aware of how a step is computed.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

FAMILIES = ("smolvlm", "moondream", "qwen2_5_vl", "gemma3")
PROGRAM = (sys.executable, "-m", "models.train")
PACE = "pace "
ASK = "ask"
LEAST = 200  # steps
SLACK_S = 3.0  # in which those that were slower to start find their pace


def main(words: Sequence[str]) -> int:
    arguments = _parser().parse_args(words)
    steps = dict(pair.split("=") for pair in arguments.steps)
    arguments.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    if not (arguments.pool / "held-out").exists():
        draw = [*PROGRAM, "draw", str(arguments.pool)]
        subprocess.run(draw, check=True)
        print(f"pictures drawn: {time.monotonic() - begin:.0f} s", flush=True)
    trainings = [Training(name, steps.get(name, ASK), arguments) for name in arguments.families]
    asking = [training for training in trainings if training.family not in steps]
    _tell(asking, begin + arguments.start_seconds, arguments.step_seconds)
    codes = [training.process.wait() for training in trainings]
    print(f"all ended: {time.monotonic() - begin:.0f} s, {codes}", flush=True)
    return max(codes)


def _tell(asking: list["Training"], until: float, seconds: float) -> None:
    """Numbers of steps that take so many seconds beside the others: once all step, or `until`.

    Who is later gets the rest of the seconds; who fails before it steps begins again in another
    way, or is left out.
    """
    told_first: float | None = None
    while asking:
        asking = [training for training in asking if training.lives()]
        if told_first is None and (all(t.paces for t in asking) or time.monotonic() > until):
            for training in asking:
                training.paces.clear()
            time.sleep(SLACK_S)  # from here on the pace is one beside the others
            told_first = time.monotonic()
        for training in [t for t in asking if told_first is not None and t.paces]:
            left = seconds - (time.monotonic() - (told_first or 0.0))
            training.tell(max(LEAST, round(training.paces[-1] * left)))
            asking.remove(training)
        time.sleep(0.2)


class Training:
    """A process, and what it says of its pace."""

    def __init__(self, family: str, steps: str, arguments: argparse.Namespace) -> None:
        self.family = family
        self.paces: list[float] = []
        self._steps = steps
        self._arguments = arguments
        self._ways = list(arguments.ways)
        self.process = self._begun()

    def lives(self) -> bool:
        """Whether it runs, perhaps since just now in the next way."""
        while self.process.poll() is not None:
            if not self._ways:
                return False
            self.process = self._begun()
        return True

    def tell(self, steps: int) -> None:
        print(f"{self.family}: {steps} steps at {self.paces[-1]:.2f} a second", flush=True)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.close()

    def _begun(self) -> "subprocess.Popen[str]":
        way, given = self._ways.pop(0), self._arguments
        command = [*PROGRAM, "pooled", self.family, "--pace", way]
        command += ["--steps", self._steps, "--pool", str(given.pool), "--device", given.device]
        command += ["--batch", str(given.batch), "--out", str(given.out / self.family)]
        print(" ".join(command), flush=True)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        Thread(target=self._follow, args=(process, given.out / f"{self.family}-{way}.log")).start()
        return process

    def _follow(self, process: "subprocess.Popen[str]", log: Path) -> None:
        assert process.stdout is not None
        with log.open("w") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                if line.startswith(PACE):
                    self.paces.append(float(line.split()[1]))
                else:
                    print(f"{self.family}: {line}", end="", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.train all", description=__doc__)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--steps", nargs="*", default=[], metavar="FAMILY=STEPS")
    parser.add_argument("--step-seconds", type=float, default=150.0)
    parser.add_argument("--start-seconds", type=float, default=120.0, help="to wait for the pace")
    parser.add_argument("--ways", nargs="+", default=("compiled", "captured", "plain"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=512)
    return parser
