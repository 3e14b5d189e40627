"""A value of a checkpoint's JSON file has the type asked for, or one line says what is wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from export.errors import UserError
from export.families.section import Section

CONTENT: dict[str, Any] = {
    "layers": 12,
    "zero": 0,
    "theta": 1e6,
    "whole": 10000,
    "tied": False,
    "act": "silu",
    "nothing": None,
    "sections": [2, 3, 3],
    "mean": [0.5, 1, 0.5],
    "kinds": ["full", "sliding"],
    "eos": [7, 9],
    "image_size": [448, 448],
    "huge": 10**400,
    "most": 2**31 - 1,
    "one more": 2**31,
    "far": [1, -(10**40)],
    "infinite": float("inf"),
    "text": {"hidden": 64, "act": "relu", "rope": {"theta": "x"}},
}
RANGE = " (from -2147483647 to 2147483647);"
ACTIVATIONS = {"silu": 1, "gelu": 2}
TOP = Section(CONTENT, "/models/mine/config.json")

READ: dict[str, tuple[Callable[[Section], object], object]] = {
    "integer": (lambda s: s.integer("layers"), 12),
    "integer, least": (lambda s: s.integer("zero", least=0), 0),
    "count": (lambda s: s.count("layers"), 12),
    "largest": (lambda s: s.count("most"), 2**31 - 1),
    "larger as a number": (lambda s: s.number("one more"), 2.0**31),
    "edge": (lambda s: s.edge("layers"), 12),
    "edge of two": (lambda s: s.edge("image_size"), 448),
    "number": (lambda s: s.number("theta", above=0), 1e6),
    "integer as a number": (lambda s: s.number("whole"), 10000.0),
    "boolean": (lambda s: s.boolean("tied"), False),
    "string": (lambda s: s.string("act"), "silu"),
    "choice": (lambda s: s.choice("act", ACTIVATIONS), 1),
    "integers": (lambda s: s.integers("sections", length=3), (2, 3, 3)),
    "numbers": (lambda s: s.numbers("mean", length=3), (0.5, 1.0, 0.5)),
    "strings": (lambda s: s.strings("kinds"), ("full", "sliding")),
    "ids": (lambda s: s.token_ids("eos"), (7, 9)),
    "one id": (lambda s: s.token_ids("layers"), (12,)),
    "null is no id": (lambda s: s.token_ids("nothing", (1,)), ()),
    "in an object": (lambda s: s.section("text").integer("hidden"), 64),
    "absent: default": (lambda s: s.integer("absent", 5), 5),
    "absent: another key's": (lambda s: s.integer("absent", s.integer("layers", 0)), 12),
    "absent: None": (lambda s: s.string("absent", None), None),
    "null: None": (lambda s: s.integer("nothing", None), None),
    "absent choice": (lambda s: s.choice("absent", ACTIVATIONS, 3), 3),
    "absent ids": (lambda s: s.token_ids("absent", (1, 2)), (1, 2)),
    "absent object": (lambda s: s.section("absent", {}).integer("hidden", 8), 8),
    "absent object: None": (lambda s: s.section("absent", None), None),
    "null object: None": (lambda s: s.section("nothing", None), None),
}
WRONG: dict[str, tuple[Callable[[Section], object], str]] = {
    "missing": (lambda s: s.integer("absent"), "absent is missing"),
    "missing below": (lambda s: s.section("text").count("heads"), "text.heads is missing"),
    "text": (lambda s: s.integer("act"), 'act is "silu", expected an integer'),
    "boolean as integer": (lambda s: s.integer("tied"), "tied is false, expected an integer"),
    "boolean as number": (lambda s: s.number("tied"), "tied is false, expected a number"),
    "integer as boolean": (lambda s: s.boolean("zero"), "zero is 0, expected true or false"),
    "float as integer": (lambda s: s.integer("theta"), "is 1000000.0, expected an integer"),
    "null": (lambda s: s.integer("nothing", 5), "nothing is null, expected an integer"),
    "zero": (lambda s: s.count("zero"), "zero is 0, expected an integer of at least 1"),
    "too large an integer": (lambda s: s.integer("one more"), f"an integer{RANGE}"),
    "too large a count": (lambda s: s.count("huge"), f"an integer of at least 1{RANGE}"),
    "too large an edge": (lambda s: s.edge("one more"), f"or two equal ones{RANGE}"),
    "too large in a list": (lambda s: s.integers("far"), f"a list of integers{RANGE}"),
    "too large an id": (lambda s: s.token_ids("far"), f"a list of ids{RANGE}"),
    "unequal edges": (lambda s: s.edge("eos"), "is [7, 9], expected an integer of at least 1, or"),
    "not above": (lambda s: s.number("zero", above=0), "zero is 0, expected a number above 0"),
    "infinite": (lambda s: s.number("infinite"), "infinite is Infinity, expected a number"),
    "too large": (lambda s: s.number("huge"), "expected a number;"),
    "integer as string": (lambda s: s.string("layers"), "layers is 12, expected a string"),
    "no choice": (
        lambda s: s.section("text").choice("act", ACTIVATIONS),
        'text.act is "relu", expected one of silu, gelu',
    ),
    "list as choice": (lambda s: s.choice("kinds", ACTIVATIONS), "expected one of silu, gelu"),
    "length": (lambda s: s.integers("sections", length=2), "expected a list of 2 integers"),
    "numbers as integers": (lambda s: s.integers("mean"), "expected a list of integers"),
    "text as list": (lambda s: s.strings("act"), 'act is "silu", expected a list of strings'),
    "no id": (lambda s: s.token_ids("kinds"), "expected an id or a list of ids"),
    "boolean as id": (lambda s: s.token_ids("tied"), "tied is false, expected an id or a list"),
    "list as object": (lambda s: s.section("eos"), "eos is [7, 9], expected an object"),
    "two objects down": (
        lambda s: s.section("text").section("rope").number("theta"),
        'text.rope.theta is "x", expected a number',
    ),
}


@pytest.mark.parametrize(("read", "expected"), READ.values(), ids=READ)
def test_a_value_is_returned_in_its_type(
    read: Callable[[Section], object], expected: object
) -> None:
    found = read(TOP)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("read", "words"), WRONG.values(), ids=WRONG)
def test_an_error_names_file_key_value_and_remedy(
    read: Callable[[Section], object], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(TOP)
    message = str(caught.value)
    assert message.startswith("/models/mine/config.json: ")
    assert message.endswith("; take config.json from the checkpoint")
    assert words in message
    assert len(message) < 250


def test_keys_can_be_listed_and_empty_objects_are_false() -> None:
    text = TOP.section("text")
    assert list(text) == ["hidden", "act", "rope"]
    assert "hidden" in text
    assert not TOP.section("absent", {})


def test_only_expected_values_pass_where_a_key_is_set() -> None:
    TOP.expect({"tied": False, "nothing": 3, "absent": 4, "layers": 12})
    with pytest.raises(UserError, match=r"text\.act is relu, but only silu is supported"):
        TOP.section("text").expect({"act": "silu"})
    with pytest.raises(UserError, match="zero is 0, but only False is supported"):
        TOP.expect({"zero": False})


def test_one_of_several_expected_values_passes() -> None:
    TOP.expect({"act": ("gelu", "silu"), "layers": (None, 12)})
    with pytest.raises(UserError, match="act is silu, but only gelu or relu is supported"):
        TOP.expect({"act": ("gelu", "relu")})
    with pytest.raises(UserError, match="act is silu, but it is not supported"):
        TOP.expect({"act": None})


def test_keys_beyond_the_known_ones_are_refused() -> None:
    TOP.section("text").expect_keys(("hidden", "act", "rope", "more"))
    with pytest.raises(UserError, match=r"text\.rope is not supported .*, only hidden, act"):
        TOP.section("text").expect_keys(("hidden", "act"))


def test_a_token_that_is_null_is_none_and_an_absent_one_has_the_default() -> None:
    assert TOP.token_id("nothing", 5) is None
    assert TOP.token_id("absent", 5) == 5
    with pytest.raises(UserError, match="tied is false, expected an integer"):
        TOP.token_id("tied", 5)
