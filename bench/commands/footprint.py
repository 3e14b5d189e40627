"""`bench footprint`: predicts size and peak memory of exports from the models' config.json."""

import argparse
import json
import sys
from dataclasses import asdict

from bench.analysis.predictions import predict
from bench.reporting.footprints import predicted
from export.checkpoint.registry import PREFIX, list_models
from export.errors import UserError
from export.targets import PREDICTABLE, TARGETS

KEYS = ("model", "target", "recipe", "disk_bytes", "kv_bytes_per_token", "peak_bytes", "fits")
"""Keys of each object that --json prints; other programs rely on them."""


def run(arguments: argparse.Namespace) -> int:
    """Print the predictions as a table or as a JSON list; returns 0.

    Exports that cannot be predicted are named on stderr; UserError if that is all of them.
    """
    rows, refusals = predict(
        arguments.models or [PREFIX + name for name in list_models()],
        {name: TARGETS[name] for name in arguments.target or PREDICTABLE},
        arguments.recipe,
        arguments.context,
    )
    if not rows:
        raise UserError("; ".join(refusals))
    for line in refusals:
        sys.stderr.write(f"left out: {line}\n")
    if arguments.json:
        facts = [asdict(row) for row in rows]
        sys.stdout.write(json.dumps([{key: row[key] for key in KEYS} for row in facts]) + "\n")
    else:
        sys.stdout.write(predicted(rows) + "\n")
    return 0
