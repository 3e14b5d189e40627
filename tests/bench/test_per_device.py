"""Each device profile gets one artifact, or the number of bytes that the smallest one lacks."""

from dataclasses import replace

import pytest

from bench.analysis.per_device import assignments
from bench.analysis.rows import Row, rows
from bench.machine.profiles import PROFILES
from bench.record import Record
from bench.reporting.devices import choices
from bench.reporting.document import Table
from tests.bench.made import phases


def of_size(records: list[Record], peaks: dict[str | None, int]) -> list[Row]:
    """Rows whose peak memory is that of their recipe; None: the checkpoint."""

    def sized(r: Record) -> Record:
        memory = phases(peaks[r.case.subject.recipe]) if r.outcome.memory else ()
        return replace(r, outcome=replace(r.outcome, memory=memory))

    known = [r for r in records if r.status == "ok" and not r.case.subject.synthetic]
    return rows([sized(r) for r in known])


def lines(shown: list[Row]) -> dict[str, tuple[str, ...]]:
    table = choices(shown)[0]
    assert isinstance(table, Table)
    return {device: tuple(cells) for device, _, *cells in table.rows}


PEAKS = {None: 10**8, "int8": 5_000_000_000, "int4": 2_400_000_000}


def test_each_device_gets_the_artifact_that_fits_it_and_never_a_checkpoint(
    records: list[Record],
) -> None:
    shown = of_size(records, PEAKS)
    taken = {
        one.budget.name: one.chosen if one.chosen is None else shown[one.chosen].subject.recipe
        for one in assignments(shown)
    }
    assert taken["phone-4gb"] is None
    assert taken["phone-8gb"] == "int4"
    assert set(taken) == {name for name in PROFILES if name != "cuda"}


def test_a_device_that_nothing_fits_is_told_how_much_is_missing(records: list[Record]) -> None:
    found = lines(of_size(records, PEAKS))
    assert found["phone-4gb"][0] == "**none fits**: onnx int4 needs 400 MB more"
    assert found["phone-8gb"][0] == "onnx int4"
    assert found["phone-8gb"][2] == "2,400 MB, 80 %"


def test_the_most_accurate_artifact_that_fits_is_chosen(records: list[Record]) -> None:
    def wrong(r: Record) -> Record:
        items = tuple(replace(item, correct=False) for item in r.outcome.items)
        return replace(r, outcome=replace(r.outcome, items=items))

    bad = [wrong(r) if r.case.subject.recipe == "int4" else r for r in records]
    found = lines(of_size(bad, PEAKS))
    assert found["phone-8gb"][0] == "onnx int4"  # int8 does not fit
    assert found["iphone-8gb-entitled"][0] == "onnx int8"


@pytest.mark.parametrize(("int4", "devices"), [(2_400_000_000, ["phone-4gb"]), (10**8, [])])
def test_without_accuracy_only_devices_that_nothing_fits_are_listed(
    records: list[Record], int4: int, devices: list[str]
) -> None:
    timed = [r for r in records if r.case.task == "latency"]
    shown = of_size(timed, PEAKS | {"int4": int4})
    assert [one.budget.name for one in assignments(shown) if one.excess_bytes] == devices
    assert bool(choices(shown)) == bool(devices)
