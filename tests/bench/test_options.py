"""Each kind of task reads its own options; records hold all of them, flat."""

from dataclasses import fields, replace

from bench.options import FidelityOptions, LatencyOptions, Options, QuestionOptions, part
from bench.record import Record
from bench.tasks import TASKS, with_own_options

FLAT = Options(prompt="text", limit=3, prompts="counting", max_tiles=2, batch=4)


def test_a_kind_takes_its_part_of_the_options() -> None:
    assert part(LatencyOptions, FLAT) == LatencyOptions(max_tiles=2, prompt="text")
    assert part(QuestionOptions, FLAT) == QuestionOptions(max_tiles=2, limit=3, batch=4)
    assert part(FidelityOptions, FLAT) == FidelityOptions(max_tiles=2, limit=3, prompts="counting")


def test_every_option_is_read_by_a_task() -> None:
    read = {field.name for task in TASKS.values() for field in fields(task.options(FLAT))}
    assert read == {field.name for field in fields(Options)}


def test_options_of_other_kinds_do_not_distinguish_jobs(records: list[Record]) -> None:
    case = replace(records[0].case, task="latency", options=FLAT)
    own = replace(case, options=Options(prompt="text", max_tiles=2))
    assert with_own_options(case) == own
    assert with_own_options(replace(case, task="removed since")).options == FLAT
