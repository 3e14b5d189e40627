"""Geometry that llama.cpp would compute otherwise is refused before a byte is written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGUFReader

from export.checkpoint.registry import open_model
from export.errors import UserError
from export.model import Model
from export.quantize.recipe import RECIPES
from export.targets import TARGETS


def tower(**changes: object) -> Callable[[Model], Model]:
    def changed(model: Model) -> Model:
        assert model.vlm.vision
        vision = model.vlm.vision
        vision = replace(vision, tower=replace(vision.tower, **changes))
        return replace(model, vlm=replace(model.vlm, vision=vision))

    return changed


def attention_scale(model: Model) -> Model:
    text = replace(model.vlm.text, attention_scale=1 / 5)
    return replace(model, vlm=replace(model.vlm, text=text))


def heads(model: Model) -> Model:
    text = replace(model.vlm.text, head_dim=2 * model.vlm.text.head_dim)
    return replace(model, vlm=replace(model.vlm, text=text))


REFUSED = {
    "heads that are not hidden / heads": (
        "tiny-qwen2.5-vl",
        heads,
        "is not hidden_size .*qwen2vl",
    ),
    "windows": ("tiny-qwen2.5-vl", tower(window=6), "window_size 84, but .* window_size 112"),
    "squares": ("tiny-qwen2.5-vl", tower(spatial_merge_size=4), "spatial_merge_size 4, but"),
    "frames": ("tiny-qwen2.5-vl", tower(temporal_patch_size=1), "temporal_patch_size 1, but"),
    "full layers that are not periodic": (
        "tiny-qwen2.5-vl",
        tower(full_attention_layers=(0, 3)),
        r"fullatt_block_indexes \[0, 3\], but .* \[0, 1, 2, 3\]",
    ),
    "attention scale": ("tiny-gemma3", attention_scale, "query_pre_attn_scalar 25 is not head_dim"),
}


def test_a_tower_whose_layers_all_see_windows_is_written(tmp_path: Path) -> None:
    model = tower(full_attention_layers=())(open_model("tiny-qwen2.5-vl"))
    written = TARGETS["gguf"].write(model, RECIPES["int8"], tmp_path, "native")
    fields = GGUFReader(tmp_path / written.components["vision"][0]).fields
    assert fields["clip.vision.n_wa_pattern"].contents() == 5  # one more than there are layers


@pytest.mark.parametrize("case", REFUSED)
def test_geometry_that_llama_cpp_has_no_key_for_is_refused(case: str, tmp_path: Path) -> None:
    name, change, said = REFUSED[case]
    with pytest.raises(UserError, match=said) as caught:
        TARGETS["gguf"].write(change(open_model(name)), RECIPES["int8"], tmp_path, "native")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
