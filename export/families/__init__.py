"""The table of the supported model families: name -> Family."""

from collections.abc import Mapping

from export.errors import UserError
from export.families.gemma3 import GEMMA3
from export.families.internvl import INTERNVL
from export.families.moondream import MOONDREAM
from export.families.qwen2_5_vl import QWEN2_5_VL
from export.families.section import Json
from export.families.smolvlm import SMOLVLM
from export.families.spec import Family
from export.files import short

FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (SMOLVLM, GEMMA3, MOONDREAM, QWEN2_5_VL, INTERNVL)
}


def family_of(config: Json, where: str) -> Family:
    """Selects the family whose `model_types` has the model_type of a config.json.

    Errors name the file as `where`. Raises UserError if there is no such family.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise UserError(f"{where}: no model_type; is this a Hugging Face checkpoint's config.json?")
    by_type = {kind: family for family in FAMILIES.values() for kind in family.model_types}
    if model_type not in by_type:
        raise UserError(
            f"{where}: model_type '{short(model_type)}' is not supported, only "
            f"{', '.join(sorted(by_type))}"
        )
    return by_type[model_type]
