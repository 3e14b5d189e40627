"""Measures exported models: `bench run` writes records to a file, reports are made from them.

    import bench

    records, damages = bench.read([Path("results/runs/tiny-smolvlm.jsonl")])
    print(bench.report(records))

Importing this package imports no inference library (torch, ONNX Runtime, llama.cpp).
"""

from typing import TYPE_CHECKING

from export.lazy import importing

__all__ = ["Damage", "Record", "main", "read", "report"]

if TYPE_CHECKING:
    from bench.cli import main
    from bench.record import Damage, Record, read
    from bench.reporting.report import report
else:
    __getattr__ = importing(
        __name__,
        {
            "Damage": "bench.record",
            "Record": "bench.record",
            "main": "bench.cli",
            "read": "bench.record",
            "report": "bench.reporting.report",
        },
    )
