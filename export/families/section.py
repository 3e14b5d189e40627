"""Reads values of a checkpoint's JSON files by type; a value of another type is a UserError.

The error is raised where the value is read. It names the file and the dotted key, says what was
found and what was expected, and how to mend it. Any other exception of a family's code is a bug of
that code.
"""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, TypeVar, overload

from export.errors import UserError
from export.files import short

T = TypeVar("T")
D = TypeVar("D")
Json = Mapping[str, Any]


class _Required(Enum):
    """Marks that a getter was given no default, so that its key must be there."""

    REQUIRED = "required"


REQUIRED = _Required.REQUIRED
MOST = 2**31 - 1
"""The largest integer that a file may have, far beyond any count, size or id of a model; the
smallest one is its negative."""


class Section:
    """One object in a JSON file, whose values are read by getters of one type each.

    Every getter takes a key and a default, and raises UserError for a value of another type:
    * without a default, the key must be there;
    * with a default, an absent key gives the default; null is a wrong type;
    * with the default None, both an absent key and null give None.
    True and False are not numbers. Integers are from -MOST to MOST.
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
        """Reads the integer under `key` (absent: `default`). Raises UserError if below `least`."""
        expected = "an integer" if least is None else f"an integer of at least {least}"
        return self._read(
            key, default, self._within(key, expected), lambda value: _integer(value, least)
        )

    def count(self, key: str, default: D | _Required = REQUIRED) -> int | D:
        """Reads the integer under `key` (absent: `default`). Raises UserError if below 1."""
        return self.integer(key, default, least=1)

    def edge(self, key: str, default: int | _Required = REQUIRED) -> int:
        """Reads a square's edge under `key`: an integer, or a list of equal height and width."""
        expected = "an integer of at least 1, or two equal ones"
        return self._read(key, default, self._within(key, expected), _edge)

    def number(
        self, key: str, default: D | _Required = REQUIRED, *, above: float | None = None
    ) -> float | D:
        """Reads the number under `key` (absent: `default`) as a float.

        Raises UserError unless it is finite and larger than `above`.
        """
        expected = "a number" if above is None else f"a number above {above:g}"
        return self._read(key, default, expected, lambda value: _number(value, above))

    def boolean(self, key: str, default: D | _Required = REQUIRED) -> bool | D:
        """Reads true or false under `key` (absent: `default`). Raises UserError for other types."""
        return self._read(key, default, "true or false", lambda value: _typed(bool, value))

    def string(self, key: str, default: D | _Required = REQUIRED) -> str | D:
        """Reads the string under `key` (absent: `default`). Raises UserError for other types."""
        return self._read(key, default, "a string", lambda value: _typed(str, value))

    def choice(
        self, key: str, choices: Mapping[str, T], default: D | _Required = REQUIRED
    ) -> T | D:
        """Reads the string under `key` and returns its value in `choices` (absent: `default`).

        Raises UserError for a string that is not in `choices`.
        """
        expected = f"one of {', '.join(choices)}"
        return self._read(
            key, default, expected, lambda value: choices.get(value) if type(value) is str else None
        )

    def integers(
        self, key: str, default: D | _Required = REQUIRED, *, length: int | None = None
    ) -> tuple[int, ...] | D:
        """Reads the list of integers under `key` (absent: `default`), of `length` ones if given.

        Raises UserError for other types and lengths.
        """
        return self._list(key, default, "integers", _integer, length)

    def numbers(
        self, key: str, default: D | _Required = REQUIRED, *, length: int | None = None
    ) -> tuple[float, ...] | D:
        """Reads the list of numbers under `key` (absent: `default`), of `length` ones if given.

        Raises UserError for other types and lengths.
        """
        return self._list(key, default, "numbers", _number, length)

    def strings(
        self, key: str, default: D | _Required = REQUIRED, *, length: int | None = None
    ) -> tuple[str, ...] | D:
        """Reads the list of strings under `key` (absent: `default`), of `length` ones if given.

        Raises UserError for other types and lengths.
        """
        return self._list(key, default, "strings", lambda value: _typed(str, value), length)

    def token_id(self, key: str, default: int | None) -> int | None:
        """Reads a token's id under `key` (absent: `default`; null: None, it has no such token)."""
        if key in self and self._content[key] is None:
            return None
        return self.integer(key, default)

    def token_ids(self, key: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Reads one token id or a list of them under `key` (absent: `default`; null: none)."""
        if key in self and self._content[key] is None:
            return ()
        return self._read(key, default, self._within(key, "an id or a list of ids"), _ids)

    @overload
    def section(self, key: str, default: Json | _Required = REQUIRED) -> "Section": ...
    @overload
    def section(self, key: str, default: None) -> "Section | None": ...
    def section(self, key: str, default: Json | _Required | None = REQUIRED) -> "Section | None":
        """Reads the JSON object under `key` as a Section (absent: of `default`, or None)."""
        found = self._read(key, default, "an object", lambda value: _typed(dict, value))
        return None if found is None else Section(found, self.file, self.dotted(key))

    def expect(self, values: Json) -> None:
        """Raises UserError if a key of `values` is in the file with another value than there.

        A tuple holds several values that are allowed. Absent keys and null always are.
        """
        for key, expected in values.items():
            found = self._content.get(key)
            allowed = expected if isinstance(expected, tuple) else (expected,)
            if found is not None and not any(_same(found, value) for value in allowed):
                known = " or ".join(str(value) for value in allowed if value is not None)
                only = (
                    f"only {known} is supported for this family" if known else "it is not supported"
                )
                raise UserError(
                    f"{self.file}: {self.dotted(key)} is {short(str(found))}, but {only}"
                )

    def expect_keys(self, known: Collection[str]) -> None:
        """Raises UserError if this object has a key that is not in `known`."""
        for key in self:
            if key not in known:
                raise UserError(
                    f"{self.file}: {self.dotted(short(key))} is not supported for this family, "
                    f"only {', '.join(known)}"
                )

    def dotted(self, key: str) -> str:
        """Returns the key with the keys of the objects around it: "vision_config.hidden_size"."""
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, expected: str) -> UserError:
        """Returns (does not raise) the error that the value under `key` is not as `expected`."""
        found = short(json.dumps(self._content.get(key), ensure_ascii=False))
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
        if kind == "integers":
            expected = self._within(key, expected)
        return self._read(key, default, expected, lambda value: _all(value, parse, length))

    def _within(self, key: str, expected: str) -> str:
        """Adds the range of integers to `expected` if what is under `key` exceeds it."""
        value = self._content.get(key)
        items = value if isinstance(value, (list, tuple)) else [value]
        too_large = any(type(item) is int and abs(item) > MOST for item in items)
        return f"{expected} (from {-MOST} to {MOST})" if too_large else expected

    def _remedy(self) -> str:
        return f"take {PurePath(self.file).name} from the checkpoint"


def _typed(kind: type[T], value: Any) -> T | None:
    return value if type(value) is kind else None


def _integer(value: Any, least: int | None = None) -> int | None:
    if type(value) is not int or abs(value) > MOST or (least is not None and value < least):
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
    """Whether two JSON values are equal; true does not equal 1."""
    return found == expected and (type(found) is bool) == (type(expected) is bool)
