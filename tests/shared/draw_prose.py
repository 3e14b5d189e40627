"""Draws docstrings and help lines at random, for a reader who is new to the code to paraphrase.

python tests/shared/draw_prose.py SEED [DOCSTRINGS] [HELP_LINES]
"""

import argparse
import ast
import random
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings() -> Iterator[str]:
    """Each docstring of the three packages with its qualified name and signature."""
    for package in ("export", "runtimes", "bench"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            if text := ast.get_docstring(tree):
                yield f"module {module}\n{text}"
            yield from _definitions(tree, module)


def _definitions(scope: ast.AST, prefix: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, DOCUMENTED):
            if text := ast.get_docstring(node):
                yield f"{prefix}.{signature(node)}\n{text}"
            yield from _definitions(node, f"{prefix}.{node.name}")


def signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The first line of a definition; of a class its fields, with what is written below each."""
    if not isinstance(node, ast.ClassDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"{node.name}({ast.unparse(node.args)}){returns}"
    lines = [f"{node.name} (class)"]
    for part, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(part, ast.AnnAssign):
            lines.append(f"    {ast.unparse(part)}")
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                lines.append(f"        # {' '.join(str(following.value.value).split())}")
    return "\n".join(lines)


def help_lines() -> Iterator[str]:
    """Each option's help of `bench` and `python -m export`, with the command it belongs to."""
    from bench.cli import parser as bench_parser
    from export.__main__ import parser as export_parser

    for name, parser in (("python -m export", export_parser()), ("bench", bench_parser())):
        yield from _helps(name, parser)


def _helps(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice, below in action.choices.items():
                yield from _helps(f"{name} {choice}", below)
        elif action.help and action.help != argparse.SUPPRESS and action.dest != "help":
            flags = ", ".join(action.option_strings) or action.dest
            shown = action.help % {"default": action.default, "prog": name}
            yield f"{name} {flags}: {shown}"


def main(seed: int, docs: int = 30, helps: int = 10) -> None:
    """Print the draw: the same for the same seed and the same code."""
    chosen = random.Random(seed)
    for mark, items, count in (("D", docstrings(), docs), ("H", help_lines(), helps)):
        for number, item in enumerate(chosen.sample(sorted(items), count), 1):
            print(f"{mark}{number}. {item}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
