"""Weights: our reader against the safetensors library, checkpoints as transformers saves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.checkpoint.folder import Checkpoint
from export.checkpoint.safetensors import open_folder, read_rows
from export.checkpoint.synthetic import CHUNK_VALUES, Synthetic
from export.families import family_of
from export.families.section import Section
from export.families.smolvlm import SMOLVLM
from export.files import read_json
from export.modeling.vlm import shapes
from tests.export.checkpoints import CONFIG, changed, make, save_shards, save_tensors, tensors

VLM = SMOLVLM.read(Section(CONFIG, "config.json"))
EMBEDDING = "model.text_model.embed_tokens.weight"


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_dtype_reads_as_the_library_reads_it(tmp_path: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    path = tmp_path / "model.safetensors"
    save_tensors(path, {"big": np.random.default_rng(0).standard_normal((600, 501), np.float32)})
    library = load_file(path)["big"].to(
        {"F32": torch.float32, "F16": torch.float16}.get(dtype, torch.bfloat16)
    )
    from safetensors.torch import save_file

    save_file({"big": library}, path)
    stored = open_folder(tmp_path)["big"]
    assert stored.dtype == dtype
    assert np.array_equal(read_rows("big", stored), library.float().numpy())


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (3, None), (5, 5), (390, 1000), (9, 2)])
def test_a_range_of_rows_is_that_part_of_the_tensor(
    tmp_path: Path, start: int, stop: int | None
) -> None:
    checkpoint = Checkpoint(make(tmp_path / "m"), SMOLVLM, VLM)
    part = checkpoint.read("token_embd.weight", start, stop)
    assert part.dtype == np.float32
    assert part.flags.c_contiguous
    assert np.array_equal(part, tensors(CONFIG)[EMBEDDING][start:stop])


def test_shards_and_one_file_read_the_same(tmp_path: Path) -> None:
    one, many = make(tmp_path / "one"), make(tmp_path / "many")
    (many / "model.safetensors").unlink()
    save_shards(many, tensors(CONFIG), count=3)
    first, second = Checkpoint(one, SMOLVLM, VLM), Checkpoint(many, SMOLVLM, VLM)
    assert all(np.array_equal(first.read(name), second.read(name)) for name in first.shapes())
    assert len(second.origin["files"]) == 3


def test_the_origin_of_a_folder_changes_with_one_value(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    before = Checkpoint(folder, SMOLVLM, VLM).origin
    values = tensors(CONFIG)
    values[EMBEDDING][3, 3] += 1
    save_tensors(folder / "model.safetensors", values)
    after = Checkpoint(folder, SMOLVLM, VLM).origin
    assert (
        before["files"]["model.safetensors"]["bytes"]
        == after["files"]["model.safetensors"]["bytes"]
    )
    assert before != after


def test_buffers_that_some_versions_save_are_ignored(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    buffer = {"model.vision_model.embeddings.position_ids": np.zeros(16, np.float32)}
    save_tensors(folder / "model.safetensors", tensors(CONFIG) | buffer)
    assert Checkpoint(folder, SMOLVLM, VLM).shapes() == shapes(VLM)


def test_tied_embeddings_need_no_head(tmp_path: Path) -> None:
    tied = changed(CONFIG, tie_word_embeddings=True)
    folder = make(tmp_path / "m")
    save_tensors(folder / "model.safetensors", tensors(tied))
    assert (
        "output.weight"
        not in Checkpoint(folder, SMOLVLM, SMOLVLM.read(Section(tied, "config.json"))).shapes()
    )


SAVED: dict[str, Callable[[Any, Path], None]] = {
    "one file": lambda model, path: model.save_pretrained(path),
    "shards": lambda model, path: model.save_pretrained(path, max_shard_size="40KB"),
    "bfloat16": lambda model, path: model.bfloat16().save_pretrained(path),
}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("model_type", ["idefics3", "smolvlm"])
@pytest.mark.parametrize("how", SAVED)
def test_what_transformers_saves_is_read_back(
    tmp_path: Path, how: str, model_type: str, tied: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    config = changed(CONFIG, model_type=model_type, tie_word_embeddings=tied)
    model = transformers.AutoModelForImageTextToText.from_config(
        transformers.AutoConfig.for_model(**config)
    )
    SAVED[how](model, tmp_path)
    read = read_json(tmp_path, "config.json")
    family = family_of(read, "config.json")
    checkpoint = Checkpoint(tmp_path, family, family.read(Section(read, "config.json")))
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (how == "shards")
    assert ("output.weight" in checkpoint.shapes()) == (not tied)
    state = model.state_dict()
    for name, source in family.sources(family.read(Section(read, "config.json"))).items():
        expected = state[source.name].float().numpy()
        assert np.array_equal(checkpoint.read(name), expected), name


def test_a_model_of_hub_names_has_the_numbers_of_its_resaved_config(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.AutoConfig.for_model(**CONFIG).save_pretrained(tmp_path)
    saved = read_json(tmp_path, "config.json")
    assert "rope_parameters" in saved["text_config"]
    assert SMOLVLM.read(Section(saved, "config.json")) == SMOLVLM.read(
        Section(CONFIG, "config.json")
    )


@pytest.mark.parametrize("name", ["token_embd.weight", "v.patch_embd.weight", "output_norm.weight"])
def test_synthetic_rows_do_not_depend_on_the_range(name: str) -> None:
    config = changed(CONFIG, text_config__vocab_size=3 * CHUNK_VALUES // 32 + 5)
    weights = Synthetic(SMOLVLM.read(Section(config, "config.json")), seed=3)
    whole = weights.read(name)
    rows = len(whole)
    assert whole.shape == weights.shapes()[name]
    for start, stop in ((0, 1), (rows // 3, rows // 3 + 2), (rows - 1, rows), (1, rows), (4, 4)):
        assert np.array_equal(weights.read(name, start, stop), whole[start:stop])


def test_synthetic_values_have_the_scale_that_keeps_activations_near_one() -> None:
    weights = Synthetic(VLM, seed=0)
    for name, shape in weights.shapes().items():
        values = weights.read(name)
        bits = values.view(np.uint32)
        assert not (bits & 0xFFFF).any(), f"{name} is not bfloat16"
        if name.endswith("ffn_up.weight"):
            assert values.std() * shape[1] ** 0.5 == pytest.approx(1, abs=0.05)
    assert weights.read("output_norm.weight").mean() == pytest.approx(1, abs=0.05)


def test_synthetic_values_differ_by_seed_and_tensor_only() -> None:
    one, same, other = Synthetic(VLM, 1), Synthetic(VLM, 1), Synthetic(VLM, 2)
    name, twin = "blk.0.attn_k.weight", "blk.0.attn_v.weight"
    assert np.array_equal(one.read(name), same.read(name))
    assert not np.array_equal(one.read(name), other.read(name))
    assert not np.array_equal(one.read(name), one.read(twin))
    assert one.origin == same.origin != other.origin
