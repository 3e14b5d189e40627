"""A wrong command line is one line with the remedy."""

from collections.abc import Callable

import pytest

from bench.cli import main as bench
from export.__main__ import main as export

ONNX = ("x", "--target", "onnx", "--recipe", "int4")


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        (bench, (), "COMMAND; see bench --help"),
        (bench, ("run",), "ARTIFACT|MODEL; see bench run --help"),
        (bench, ("run", "x", "--limit", "0"), "--limit: '0' is not a positive integer"),
        (bench, ("run", "x", "--limit", "²"), "--limit: '²' is not a positive integer"),
        (bench, ("run", "x", "--timeout", "nan"), "--timeout: 'nan' is not a number above 0"),
        (bench, ("compare", "a", "b", "--tolerance", "100"), "'100' is not a number from 0 to"),
        (export, ("x",), "--target, --recipe; see python -m export --help"),
        (bench, ("list", "x" * 5000), "…; see bench --help"),
        (bench, ("list", "x\ny"), "unrecognized arguments: x y; see bench --help"),
        (export, (*ONNX, "--budget-mb", "0"), "--budget-mb: '0' is not a number above 0"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_remedy(
    command: Callable[[list[str]], int],
    arguments: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(list(arguments))
    (line,) = capsys.readouterr().err.splitlines()
    assert (stopped.value.code, told in line, len(line) < 1200) == (2, True, True), line
