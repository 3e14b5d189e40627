"""Turns parsed JSON into dataclasses. A wrong type, a missing or an unknown key is an error.

`encode` is the inverse.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, cast

T = TypeVar("T")


LARGEST = 1e300
"""Bound of all numbers: JSON's 1e999 is read as infinity, and longer integers are no floats."""


class Mismatch(ValueError):
    """Raised for JSON that does not fit the dataclass; the message begins with the dotted key."""


def decode(kind: type[T], value: object, where: str = "") -> T:
    """Converts parsed JSON to an object of the type `kind`, a dataclass. Raises Mismatch.

    Keys of fields with a default may be absent. Error messages begin with `where`.
    """
    return cast(T, _decode(kind, value, where))


def encode(value: object) -> Any:
    """Converts a dataclass to values that `json.dumps` and `decode` take (dicts, lists, …)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


def _decode(kind: Any, value: object, where: str) -> object:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, value, where)
    origin = typing.get_origin(kind)
    if origin in _GENERIC:
        return _GENERIC[origin](typing.get_args(kind), value, where)
    return _plain(kind, value, where)


def _dataclass(kind: type, value: object, where: str) -> object:
    given = _expect_type(dict, value, where or kind.__name__)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if left := sorted(given.keys() - fields.keys()):
        raise Mismatch(f"{where or kind.__name__}: unknown key {left[0][:40]!r}")
    for name, field in fields.items():
        if name not in given and _required(field):
            raise Mismatch(f"{_below(where, name)}: missing")
    known = {name: _decode(hints[name], given[name], _below(where, name)) for name in given}
    return kind(**known)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _union(arguments: tuple[Any, ...], value: object, where: str) -> object:
    """Decodes a union: `X | None`, or several dataclasses, of which the JSON selects one.

    The key "kind" selects it if the dataclasses have a field `kind` (absent: the first one);
    otherwise it is the first one whose required keys are all there.
    """
    inner = [argument for argument in arguments if argument is not types.NoneType]
    if value is None and len(inner) < len(arguments):
        return None
    if len(inner) == 1:
        return _decode(inner[0], value, where)
    given = _expect_type(dict, value, where)
    if not all(hasattr(kind, "kind") for kind in inner):
        fitting = [kind for kind in inner if _required_keys(kind) <= given.keys()]
        return _decode((fitting or inner)[0], value, where)
    first, *_ = kinds = {kind.kind: kind for kind in inner}
    found = given.get("kind", first)
    _literal(tuple(kinds), found, _below(where, "kind"))
    return _decode(kinds[found], value, where)


def _required_keys(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind) if _required(field)}


def _literal(arguments: tuple[Any, ...], value: object, where: str) -> object:
    if any(type(value) is type(known) and value == known for known in arguments):
        return value
    raise _mismatch(f"one of {', '.join(map(str, arguments))}", value, where)


def _tuple(arguments: tuple[Any, ...], value: object, where: str) -> object:
    given = _expect_type(list, value, where)
    kinds = arguments[:1] * len(given) if arguments[-1] is Ellipsis else arguments
    if len(kinds) != len(given):
        raise _mismatch(f"{len(kinds)} values", value, where)
    return tuple(
        _decode(kind, item, f"{where}[{n}]")
        for n, (kind, item) in enumerate(zip(kinds, given, strict=True))
    )


def _mapping(arguments: tuple[Any, ...], value: object, where: str) -> object:
    given = _expect_type(dict, value, where)
    return {
        key: _decode(arguments[1], item, _below(where, key[:40])) for key, item in given.items()
    }


_GENERIC: Mapping[Any, Callable[[tuple[Any, ...], object, str], object]] = {
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    tuple: _tuple,
    Mapping: _mapping,
}


def _plain(kind: Any, value: object, where: str) -> object:
    if kind in (Any, object):
        return value
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    if type(value) in (int, float) and not abs(cast(float, value)) < LARGEST:
        raise _mismatch(f"a number below {LARGEST:.0e}", value, where)
    return _expect_type(kind, value, where)


def _expect_type(kind: type[T], value: object, where: str) -> T:
    """Returns `value` if its type is exactly `kind`, so True is not an int; or raises Mismatch."""
    if type(value) is not kind:
        raise _mismatch(_WORDS.get(kind, kind.__name__), value, where)
    return value


_WORDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    int: "an integer",
    float: "a number",
    str: "a string",
}


def _mismatch(wanted: str, value: object, where: str) -> Mismatch:
    return Mismatch(f"{where}: expected {wanted}, found {str(value)[:40]!r}")
