"""Whatever config.json says, we compute what transformers computes, or refuse it by name.

The fields are those of transformers' own config classes: a new one fails here until it is
classified in config_fields.
"""

from dataclasses import fields

import pytest
from config_fields import ALSO, ELSEWHERE, PARTS, Fields, changed, within
from config_oracle import assert_equal_logits, read

from export.errors import UserError

OBJECTS = [(model, part) for model, parts in PARTS.items() for part in parts]


@pytest.mark.parametrize(("model", "part"), OBJECTS)
def test_every_field_of_transformers_is_classified(model: str, part: str) -> None:
    known: Fields = PARTS[model][part]
    theirs = {field.name for field in fields(known.config_class)}
    theirs |= known.config_class.attribute_map.keys()
    assert theirs - ELSEWHERE <= known.read.keys() | known.refused.keys() | known.inert.keys()


READ = [(*at, key) for at in OBJECTS for key in PARTS[at[0]][at[1]].read]
REFUSED = [(*at, key) for at in OBJECTS for key in PARTS[at[0]][at[1]].refused]


@pytest.mark.parametrize(("model", "part", "key"), READ)
def test_what_is_read_is_what_transformers_computes(model: str, part: str, key: str) -> None:
    change = within(part, {key: PARTS[model][part].read[key]})
    assert_equal_logits(changed(model, change, ALSO.get((model, part, key), {})))


@pytest.mark.parametrize(("model", "part", "key"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(model: str, part: str, key: str) -> None:
    value = PARTS[model][part].refused[key]
    with pytest.raises(UserError) as caught:
        read(changed(model, within(part, {key: value})))
    message = str(caught.value)
    assert key in message or "rope_parameters" in message
    assert "\n" not in message


@pytest.mark.parametrize("model", PARTS)
def test_what_is_ignored_changes_nothing_in_transformers(model: str) -> None:
    inert = [within(part, known.inert) for part, known in PARTS[model].items()]
    assert_equal_logits(changed(model, *inert))
