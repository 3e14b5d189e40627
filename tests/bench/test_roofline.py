"""Shares of the machine's ceilings, worked by hand."""

from dataclasses import replace

import pytest

from bench.analysis.rows import rows
from bench.machine.ceilings import Ceilings
from bench.machine.gpu_ceilings import GpuCeilings
from bench.record import Record, Work
from bench.reporting.document import Text
from bench.reporting.roofline import reached, roofline

WORK = Work(
    image_flops=8_200_000, prefill_flops=5_125_000, decode_flops=None, decode_bytes=2_000_000
)
CEILINGS = Ceilings(read_bytes_per_s=1e10, fp32_flops_per_s=2e9, int8_ops_per_s=4e9)


def _with(records: list[Record], recipe: str | None, ceilings: Ceilings | None) -> list[Record]:
    return [
        replace(
            r,
            environment=replace(r.environment, ceilings=ceilings),
            outcome=replace(r.outcome, work=WORK),
        )
        for r in records
        if r.case.subject.recipe == recipe and r.outcome.timings and not r.case.subject.synthetic
    ]


def test_int8_is_compared_with_integer_and_the_rest_with_float_arithmetic(
    records: list[Record],
) -> None:
    (row,) = rows(_with(records, "int8", CEILINGS))
    found = reached(row)
    assert found is not None
    rate = row.decode_tokens_per_s()
    assert rate is not None
    assert found.decode == pytest.approx(rate.value * 2e6 / 1e10)
    # 8.2 million operations in the median image's 8.2 ms are 1e9 a second, of 4e9.
    assert found.image == pytest.approx(0.25)
    assert found.prefill == pytest.approx(0.25)
    (row,) = rows(_with(records, None, CEILINGS))
    found = reached(row)
    assert found is not None
    assert found.image == pytest.approx(0.1)  # five times slower, half the ceiling


def test_without_ceilings_there_are_rates_but_no_shares(records: list[Record]) -> None:
    shown = rows(_with(records, "int8", None))
    found = reached(shown[0])
    assert found is not None
    assert (found.image is None, found.image_flops_per_s is None) == (True, False)
    assert len(roofline(shown)) == 2


def test_rows_of_a_gpu_are_compared_with_its_ceilings(records: list[Record]) -> None:
    gpu = GpuCeilings(copy_bytes_per_s=1e10, fp16_flops_per_s=4e9, bf16_flops_per_s=2e9)
    there = [
        replace(
            r,
            case=replace(r.case, device="cuda"),
            environment=replace(r.environment, gpu_ceilings=gpu),
        )
        for r in _with(records, "int8", CEILINGS)
    ]
    (row,) = rows(there)
    found = reached(row)
    assert found is not None
    assert found.image == pytest.approx(0.25)
    *_, told = roofline([row])
    assert isinstance(told, Text)
    assert "copying 10.0 GB/s (read and written), float16 4.00 Gop/s" in told.text
    assert "int8 and int4" not in told.text
    missing = replace(there[0].environment, gpu_ceilings=GpuCeilings(problem="no torch"))
    (row,) = rows([replace(r, environment=missing) for r in there])
    *_, told = roofline([row])
    assert isinstance(told, Text)
    assert told.text.endswith("The GPU's ceilings are not known: no torch.")


def test_without_work_there_is_no_table(records: list[Record]) -> None:
    assert roofline(rows(records)) == []


def test_new_ceilings_do_not_make_another_machine(records: list[Record]) -> None:
    first, second = _with(records, "int8", CEILINGS)
    again = replace(CEILINGS, read_bytes_per_s=1.1e10)
    later = replace(second, environment=replace(second.environment, ceilings=again))
    assert len(rows([first, later])) == 1
