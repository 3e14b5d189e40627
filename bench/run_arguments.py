"""The arguments of `bench run`."""

import argparse
from typing import get_args, get_type_hints

from bench.arguments import (
    OFFLINE,
    THREADS,
    TILES,
    WEIGHTS,
    Add,
    add_count,
    add_names,
    device,
    one_of,
    seed,
    shard,
)
from bench.machine.profiles import PROFILES
from bench.options import Options
from bench.tasks import DEFAULT_TASKS, TASKS, QuestionTask
from export.arguments import above_zero
from export.checkpoint.registry import WeightsKind
from export.quantize.recipe import KNOWN
from export.targets import TARGETS
from runtimes import RUNTIMES


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add them to the parser of `bench run`, in groups."""
    what = command.add_argument_group("what to measure")
    add = what.add_argument
    known = (
        "what to measure: folder of an artifact (an exported model), name of a model in "
        "models.yaml, or folder of a checkpoint"
    )
    add("subjects", nargs="+", metavar="ARTIFACT|MODEL", help=known)
    target = (
        "export each MODEL to this format, unless build/ has that artifact, and measure it "
        "(default: with --recipe or --runtime every format that the chosen runtimes open; without "
        "them no export, the checkpoint itself is measured)"
    )
    add_names(add, "target", TARGETS, target)
    recipe = "export each MODEL with this recipe, which sets the bits per weight (default: int4)"
    add_names(add, "recipe", KNOWN, recipe)
    kinds = get_args(WeightsKind)
    add("--weights", choices=kinds, help=f"weights to use for each MODEL; {WEIGHTS}")
    task = f"measure this task; `bench list` describes all (default: {', '.join(DEFAULT_TASKS)})"
    add_names(add, "task", TASKS, task)
    add("--offline", action="store_true", help=OFFLINE)
    where = command.add_argument_group("where to run it")
    add = where.add_argument
    visible = [name for name, runtime in RUNTIMES.items() if not runtime.hidden]
    named = ", ".join(name for name in visible if RUNTIMES[name].by_name)
    runtime = (
        "run each artifact or checkpoint in this runtime (default: every runtime that can open it, "
        f"but {named} only if it is named)"
    )
    add_names(add, "runtime", RUNTIMES, runtime, visible)
    held = (
        "limit jobs to the CPU threads and memory of this device profile; cuda:N is the profile "
        "cuda on the GPU number N, from 0 (default: this machine without limits)"
    )
    devices = f"{held}. May be given several times. Names: {', '.join(PROFILES)}, cuda:N"
    add("--device", action="append", type=device, metavar="NAME", help=devices)
    add_count(add, "threads", None, THREADS)
    ceilings = (
        "skip measuring the most bytes and operations per second that this machine reaches, which "
        "a report compares the model's speed with"
    )
    add("--no-ceilings", dest="ceilings", action="store_false", help=ceilings)
    _amounts(command.add_argument_group("how much to measure").add_argument)
    _latency(command.add_argument_group("options of the latency task").add_argument)
    _questions(command.add_argument_group("options of tasks with questions").add_argument)
    _fidelity(command.add_argument_group("options of the fidelity task").add_argument)
    add = command.add_argument_group("records").add_argument
    records = (
        "append one line of JSON, a record, for each job to this file (default: "
        "results/runs/<time>.jsonl)"
    )
    add("-o", "--output", metavar="RUN.jsonl", help=records)
    resume = "skip jobs that already have a record, even if they failed, in the file given with -o"
    add("--resume", action="store_true", help=resume)


def _amounts(add: Add) -> None:
    default = Options()
    rounds = "run each job of the latency task N times, each time in a new process (default 3)"
    add_count(add, "rounds", 3, rounds)
    limit = "ask at most N questions of a task (default: all; 100 for the fidelity task)"
    add_count(add, "limit", None, limit)
    seeded = "random seed for the choice of --limit questions and for generated images (default 0)"
    add("--seed", type=seed, default=default.seed, metavar="N", help=seeded)
    add_count(add, "max-tiles", None, TILES)
    stop = "end a job that takes longer than S seconds; it counts as failed (default 3600)"
    add("--timeout", type=above_zero, default=3600, metavar="S", help=stop)


def _latency(add: Add) -> None:
    default, prompts = Options(), get_args(get_type_hints(Options)["prompt"])
    kind = "what a timed request asks about: an image, or only text (default image)"
    add("--prompt", choices=prompts, default=default.prompt, help=kind)
    prompt = f"number of tokens in the prompt of --prompt text (default {default.prefill_tokens})"
    add_count(add, "prefill-tokens", default.prefill_tokens, prompt)
    answer = f"number of tokens in the answer to every request (default {default.decode_tokens})"
    add_count(add, "decode-tokens", default.decode_tokens, answer)
    requests = f"time N requests in each process, after one warm-up (default {default.repeats})"
    add_count(add, "repeats", default.repeats, requests)
    beside = "measure each job a second time while another process keeps one CPU busy"
    add("--contended", action="store_true", help=beside)


def _questions(add: Add) -> None:
    default = Options()
    local = (
        "read a public data set from the parquet or jsonl files in this folder (default: from the "
        "Hugging Face hub)"
    )
    add("--data", metavar="DIR", help=local)
    part = (
        "ask only part I of N of the questions, with I from 1 to N, for example 1/4; `bench "
        "report` merges the parts"
    )
    add("--shard", type=shard, metavar="I/N", help=part)
    again = (
        "encode the image anew for each of several questions about it, to measure what the reuse "
        "of its features saves"
    )
    add("--no-reuse", dest="reuse", action="store_false", help=again)
    batch = (
        "answer N questions at once, in runtimes that can; others are skipped (default: where the "
        "runtime can, the questions about one image at once)"
    )
    add_count(add, "batch", default.batch, batch)


def _fidelity(add: Add) -> None:
    checkpoint = (
        "compare artifacts with this checkpoint: name in models.yaml, or folder (default: the "
        "model that each was exported from)"
    )
    add("--reference", metavar="MODEL|DIR", help=checkpoint)
    askable = [name for name, task in TASKS.items() if isinstance(task, QuestionTask)]
    asked = one_of("task with questions", askable)
    whose = (
        "take the prompts of the fidelity task from this task with questions (default: easy-vqa)"
    )
    add("--prompts", type=asked, default=Options().prompts, metavar="TASK", help=whose)
