"""`bench peers`: measures other projects' programs beside our runtimes, in one run.

It exports the model to our formats and builds it with the other projects' exporters, where that is
not done yet. Then each program answers the same request, in a process of its own and with the same
threads, in turns. `make peers` makes the environments that the programs need.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.commands.run import measure, output_file
from bench.jobs.exports import is_of
from bench.jobs.plan import Choices, Job, Plan, plan
from bench.machine.threads import chosen_threads
from bench.options import Options
from bench.peers.builders import BUILDERS
from bench.peers.table import OURS, PEERS, UNMEASURED, Peer
from bench.record import read
from bench.references import References
from bench.reporting import fmt
from bench.reporting.markdown import markdown
from bench.reporting.peers import Line, document
from bench.subjects import candidate
from bench.tasks import TASKS
from bench.tasks.latency import request_name
from export.build import ExportSpec, build
from export.checkpoint.registry import open_model
from export.console import rich_console
from export.errors import UserError
from export.model import Model
from export.quantize.recipe import RECIPES
from export.targets import folder_name
from runtimes import RUNTIMES

TASK = "latency"
NOT_EXPORTED = "we cannot export the model for it, see above"


def run(arguments: argparse.Namespace) -> int:
    """Build what is missing, measure each program that can be, and print the table.

    Returns 0, or 1 if a job failed. Raises UserError if all of our own exports fail.
    """
    console = rich_console(stderr=True)
    model = open_model(arguments.model, weights=arguments.weights)
    folder = Path("build") / model.name
    made: dict[str, Path] = {}
    absent: dict[str, str] = {}
    for name, target in OURS.items():
        reason = RUNTIMES[name].unavailable("native")
        reason = reason or _exported(arguments, model, folder, made, target)
        if reason is not None:
            absent[name] = reason
    if not made:
        raise UserError(f"{model.name} could not be exported, see above")
    for peer in PEERS:
        reason = _absent(peer, arguments, model) or _built(peer, model, arguments, folder, made)
        if reason is not None:
            absent[peer.runtime] = reason
    choices = _choices(arguments)
    jobs = _jobs(made, absent, choices)
    _print(console, f"{len(jobs)} to measure, {choices.rounds} of each program")
    output = output_file(arguments.output)
    before = len(read([output])[0])
    code = measure(console, Plan(tuple(jobs), ()), output, ceilings=False)
    records = read([output])[0][before:]
    table = markdown(
        document(
            _lines(arguments.prompt, absent),
            records,
            request_name(choices.options),
            choices.threads,
        )
    )
    sys.stdout.write(table)
    return code


def _exported(
    arguments: argparse.Namespace,
    model: Model,
    folder: Path,
    made: dict[str, Path],
    target: str,
) -> str | None:
    """Export the model to a target unless that is done; return why it cannot be exported.

    Adds the folder to `made`, by the target.
    """
    out = folder / folder_name(target, arguments.recipe, "native")
    if is_of(out, model):
        made[target] = out
        return None
    words = [arguments.model, "--target", target, "--recipe", arguments.recipe]
    words += ["--layout", "native", "--out", str(out), "--no-verify"]
    words += ["--weights", arguments.weights] if arguments.weights else []
    done = subprocess.run(
        [sys.executable, "-m", "export", *words], stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        return NOT_EXPORTED
    made[target] = out
    return None


def _absent(peer: Peer, arguments: argparse.Namespace, model: Model) -> str | None:
    """Why a peer cannot be measured with this request; None: it may be."""
    if arguments.prompt not in peer.prompts:
        return f"it takes {_takes(peer)} alone; measure it with --prompt {peer.prompts[0]}"
    if arguments.prompt == "image" and model.vlm.vision is None:
        return "the model takes no images"
    return RUNTIMES[peer.runtime].unavailable("native")


def _built(
    peer: Peer, model: Model, arguments: argparse.Namespace, folder: Path, made: dict[str, Path]
) -> str | None:
    """Build the model with a peer's exporter unless that is done; return why it cannot be built.

    Adds the folder to `made`, by the peer's target.
    """
    if peer.target in made:
        return None
    if peer.target not in BUILDERS:
        return NOT_EXPORTED
    out = folder / folder_name(peer.target, arguments.recipe, "native")
    if not is_of(out, model):
        spec = ExportSpec(peer.target, RECIPES[arguments.recipe], "native")
        try:
            build(model, spec, out, targets=BUILDERS)
        except UserError as error:
            return f"it cannot build {model.name}: {error}"
    made[peer.target] = out
    return None


def _choices(arguments: argparse.Namespace) -> Choices:
    options = Options(
        prompt=arguments.prompt,
        prefill_tokens=arguments.prefill_tokens,
        decode_tokens=arguments.decode_tokens,
        repeats=arguments.repeats,
        max_tiles=None,
    )
    return Choices(
        runtimes={},
        asked_runtimes=True,
        tasks={TASK: TASKS[TASK]},
        options=options,
        rounds=arguments.rounds,
        threads=chosen_threads(arguments.threads),
        references=References(None, True),
        fixed_threads=True,  # also where other programs compute: peers do not give way
    )


def _jobs(made: dict[str, Path], absent: dict[str, str], choices: Choices) -> list[Job]:
    """Return the jobs of our runtimes and of the peers, in rounds.

    Adds to `absent` why a runtime has none.
    """
    of = {**OURS, **{peer.runtime: peer.target for peer in PEERS}}
    jobs: list[Job] = []
    for name, target in of.items():
        if name in absent:
            continue
        own = replace(choices, runtimes={name: RUNTIMES[name]})
        planned = plan([candidate(str(made[target]), offline=True)], own)
        jobs += planned.jobs
        absent |= {skip.case.runtime: skip.reason for skip in planned.skips}
    return sorted(jobs, key=lambda job: job.case.round)


def _lines(prompt: str, absent: dict[str, str]) -> list[Line]:
    first = next(iter(OURS))
    ours = [
        Line(
            f"ours: {name}",
            name,
            None if name == first else first,
            "text, images",
            absent.get(name),
        )
        for name in OURS
    ]
    theirs = [
        Line(peer.title, peer.runtime, peer.beside, _takes(peer), absent.get(peer.runtime))
        for peer in PEERS
    ]
    return [*ours, *theirs, *(Line(name, "", None, "", why) for name, why in UNMEASURED.items())]


def _takes(peer: Peer) -> str:
    return fmt.listed([{"text": "text", "image": "images"}[prompt] for prompt in peer.prompts])


def _print(console: Console, text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)
