"""Renders a chat template in a process of its own, which ends by itself if that takes too much.

Reads a JSON object from stdin: the template, the conversations, and the other variables. Writes a
JSON list to stdout, with {"text": …} or {"error": …} for each conversation. Its arguments are the
most seconds of CPU time and bytes of memory that it may take. Run as a script, so that nothing but
jinja2 is imported.

A chat template is a program from an untrusted folder. jinja2's sandbox keeps it from files and
from Python's internals; the limits below keep it from running on and from filling the memory.
"""

import json
import resource
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 1 << 20
"""Most characters of a rendered text that are returned."""


class Generation(Extension):
    """Ignores the tag {% generation %}, with which templates mark answers for training."""

    tags = {"generation"}  # noqa: RUF012 # as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Returns the nodes between the tag and its end."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Returns an environment with transformers' settings and functions (chat_template_utils.py)."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = _tojson
    made.globals |= {"raise_exception": _raise, "strftime_now": datetime.now().strftime}
    return made


def rendered(
    template: str, conversations: list[Any], variables: Mapping[str, str]
) -> list[dict[str, str]]:
    """Returns {"text": …} or {"error": …} for each conversation."""
    try:
        compiled = environment().from_string(template)
    except Exception as error:
        return [_error(error)] * len(conversations)
    found = []
    for messages in conversations:
        try:
            text = compiled.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **variables,
            )
            found.append({"text": text[:LONGEST]})
        except Exception as error:  # a template can raise whatever Python can
            found.append(_error(error))
    return found


def _error(error: Exception) -> dict[str, str]:
    if isinstance(error, MemoryError):
        return {"error": "it takes too much memory"}
    return {"error": f"{type(error).__name__}: {error}"[:LONGEST]}


def _tojson(  # the arguments of transformers' filter
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise TemplateError(message)


def _limit(kind: int, most: int) -> None:
    """Limits a resource of this process, for good, to `most` or to a lower limit that it has."""
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def main() -> None:
    """Renders what stdin holds, within the limits, and prints the result."""
    cpu_s, memory_bytes = map(int, sys.argv[1:])
    _limit(resource.RLIMIT_CPU, cpu_s)
    _limit(resource.RLIMIT_AS, memory_bytes)
    asked = json.load(sys.stdin)
    json.dump(rendered(**asked), sys.stdout)


if __name__ == "__main__":
    main()
