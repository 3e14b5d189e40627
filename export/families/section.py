"""Typed reading of a checkpoint's JSON files: a value has the type asked for, or the user is told.

The error is raised where the value is read. It names the file and the dotted key, says what was
found and what was expected, and how to mend it. Any other exception of a family's code is a bug of
that code.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, TypeVar, overload

from export.errors import UserError
from export.files import short

T = TypeVar("T")
D = TypeVar("D")
Json = Mapping[str, Any]


class _Required(Enum):
    """The default of a key without a default."""

    REQUIRED = "required"


REQUIRED = _Required.REQUIRED


class Section:
    """An object in a JSON file, read by typed getters.

    Every getter takes a key and a default:
    * without a default, the key must be there;
    * with a default, an absent key gives the default, and null is an error as any wrong type is;
    * with the default None, both an absent key and null give None.
    True and False are not numbers. Raises UserError.
    """

    def __init__(self, content: Json, file: str, path: str = "") -> None:
        self._content = content
        self.file = file
        """The file's path, as errors show it."""
        self.path = path
        """Dotted keys from the file's top to this object; "" at the top."""

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def integer(
        self, key: str, default: D | _Required = REQUIRED, *, least: int | None = None
    ) -> int | D:
        """An integer; with `least`, not a smaller one."""
        expected = "an integer" if least is None else f"an integer of at least {least}"
        return self._read(key, default, expected, lambda value: _integer(value, least))

    def count(self, key: str, default: D | _Required = REQUIRED) -> int | D:
        """An integer of at least 1: a number of layers, a size."""
        return self.integer(key, default, least=1)

    def edge(self, key: str, default: int | _Required = REQUIRED) -> int:
        """The edge of a square, written as one number or as equal height and width."""
        expected = "an integer of at least 1, or two equal ones"
        return self._read(key, default, expected, _edge)

    def number(
        self, key: str, default: D | _Required = REQUIRED, *, above: float | None = None
    ) -> float | D:
        """A finite number as a float; with `above`, a larger one than that."""
        expected = "a number" if above is None else f"a number above {above:g}"
        return self._read(key, default, expected, lambda value: _number(value, above))

    def boolean(self, key: str, default: D | _Required = REQUIRED) -> bool | D:
        """True or False."""
        return self._read(key, default, "true or false", lambda value: _typed(bool, value))

    def string(self, key: str, default: D | _Required = REQUIRED) -> str | D:
        """A string."""
        return self._read(key, default, "a string", lambda value: _typed(str, value))

    def choice(
        self, key: str, choices: Mapping[str, T], default: D | _Required = REQUIRED
    ) -> T | D:
        """The value of `choices` that the file names by its key there."""
        expected = f"one of {', '.join(choices)}"
        return self._read(
            key, default, expected, lambda value: choices.get(value) if type(value) is str else None
        )

    def integers(
        self, key: str, default: D | _Required = REQUIRED, *, length: int | None = None
    ) -> tuple[int, ...] | D:
        """A list of integers; with `length`, of so many."""
        return self._list(key, default, "integers", _integer, length)

    def numbers(
        self, key: str, default: D | _Required = REQUIRED, *, length: int | None = None
    ) -> tuple[float, ...] | D:
        """A list of finite numbers as floats; with `length`, of so many."""
        return self._list(key, default, "numbers", _number, length)

    def strings(
        self, key: str, default: D | _Required = REQUIRED, *, length: int | None = None
    ) -> tuple[str, ...] | D:
        """A list of strings; with `length`, of so many."""
        return self._list(key, default, "strings", lambda value: _typed(str, value), length)

    def token_ids(self, key: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """An id or a list of ids, as eos_token_id is written; null stands for an empty list."""
        if key in self and self._content[key] is None:
            return ()
        return self._read(key, default, "an id or a list of ids", _ids)

    @overload
    def section(self, key: str, default: Json | _Required = REQUIRED) -> "Section": ...
    @overload
    def section(self, key: str, default: None) -> "Section | None": ...
    def section(self, key: str, default: Json | _Required | None = REQUIRED) -> "Section | None":
        """The object under a key; a default is given as its content."""
        found = self._read(key, default, "an object", lambda value: _typed(dict, value))
        return None if found is None else Section(found, self.file, self.dotted(key))

    def expect(self, values: Json) -> None:
        """Raises UserError where a key of `values` is set (neither absent nor null) to another."""
        for key, expected in values.items():
            found = self._content.get(key)
            if found is not None and not _same(found, expected):
                raise UserError(
                    f"{self.file}: {self.dotted(key)} is {short(str(found))}, but only {expected} "
                    f"is supported for this family"
                )

    def dotted(self, key: str) -> str:
        """The key with those of the objects around it, as errors name it."""
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, expected: str) -> UserError:
        """The error for a value that is not what a family can use, to be raised by the caller."""
        found = short(str(self._content.get(key)))
        return UserError(
            f"{self.file}: {self.dotted(key)} is {found}, expected {expected}; {self._remedy()}"
        )

    def _read(
        self, key: str, default: D | _Required, expected: str, parse: Callable[[Any], T | None]
    ) -> T | D:
        if key not in self._content:
            if isinstance(default, _Required):
                raise UserError(f"{self.file}: {self.dotted(key)} is missing; {self._remedy()}")
            return default
        value = self._content[key]
        if value is None and default is None:
            return default
        parsed = parse(value)
        if parsed is None:
            raise self.wrong(key, expected)
        return parsed

    def _list(
        self,
        key: str,
        default: D | _Required,
        kind: Literal["integers", "numbers", "strings"],
        parse: Callable[[Any], T | None],
        length: int | None,
    ) -> tuple[T, ...] | D:
        expected = f"a list of {kind}" if length is None else f"a list of {length} {kind}"
        return self._read(key, default, expected, lambda value: _all(value, parse, length))

    def _remedy(self) -> str:
        return f"take {PurePath(self.file).name} from the checkpoint"


def _typed(kind: type[T], value: Any) -> T | None:
    return value if type(value) is kind else None


def _integer(value: Any, least: int | None = None) -> int | None:
    if type(value) is not int or (least is not None and value < least):
        return None
    return value


def _edge(value: Any) -> int | None:
    edges = _all(value if isinstance(value, (list, tuple)) else [value], _integer, None)
    return edges[0] if edges and set(edges) == {edges[0]} and edges[0] >= 1 else None


def _number(value: Any, above: float | None = None) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of more digits than a float has
        return None
    return number if math.isfinite(number) and (above is None or number > above) else None


def _all(value: Any, parse: Callable[[Any], T | None], length: int | None) -> tuple[T, ...] | None:
    if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
        return None
    parsed = [parse(item) for item in value]
    return tuple(item for item in parsed if item is not None) if None not in parsed else None


def _ids(value: Any) -> tuple[int, ...] | None:
    return _all(value if isinstance(value, (list, tuple)) else [value], _integer, None)


def _same(found: object, expected: object) -> bool:
    """Equal as JSON: true is not 1."""
    return found == expected and (type(found) is bool) == (type(expected) is bool)
