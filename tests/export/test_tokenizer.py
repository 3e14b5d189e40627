"""The synthetic tokenizer has the ids of the real ones and is read by the usual libraries."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from export.checkpoint.tokenizer import synthetic_tokenizer
from export.errors import UserError
from export.families.section import Section
from export.families.smolvlm import SMOLVLM
from export.families.spec import SMOLLM2
from export.modeling.decoder import Decoder
from export.modeling.pixel_shuffle import PixelShuffle
from export.modeling.vision import TileVision
from export.modeling.vit import Vit
from export.modeling.vlm import Vlm

TOWER = Vit(1, 32, 64, 2, image_size=32, patch_size=8, norm_eps=1e-6, activation="gelu_tanh")
TEXT = Decoder(1, 32, 64, 2, 2, 16, 49280, 2048, 1e4, 1e-5, "silu", tied=False)
VLM = Vlm("smolvlm", TileVision(TOWER, PixelShuffle(2), 49190), TEXT, 1, (49279,))
GRID = [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)]


def vlm(vocab: int, image: int) -> Vlm:
    vision = replace(VLM.vision, image_token_id=image)
    return replace(VLM, text=replace(TEXT, vocab=vocab), vision=vision)


def tokenizer(vocab: int, image: int) -> Tokenizer:
    files = synthetic_tokenizer(vlm(vocab, image), SMOLVLM.special_tokens)
    return Tokenizer.from_str(files["tokenizer.json"].decode())


BEGIN = dict(zip(SMOLLM2.first, range(3), strict=True))
REAL_IDS = {  # from the released tokenizer.json files; None is a string that is not a token
    "SmolVLM-256M": (
        (49280, 49190),
        BEGIN
        | {"<global-img>": 49152, "<fake_token_around_image>": 49189, "<image>": 49190}
        | {token: 49153 + place for place, token in enumerate(GRID)}
        | {"<|reserved_special_token_0|>": 49191, "<|reserved_special_token_87|>": 49278}
        | {"<end_of_utterance>": 49279},
    ),
    "SmolVLM-Instruct": (
        (49155, 49153),
        BEGIN
        | {"<fake_token_around_image>": 49152, "<image>": 49153, "<end_of_utterance>": 49154}
        | dict.fromkeys(["<global-img>", *GRID]),
    ),
    "the tiny twin": (
        (416, 414),
        BEGIN
        | {"<global-img>": 376, "<fake_token_around_image>": 413, "<image>": 414}
        | {token: 377 + place for place, token in enumerate(GRID)}
        | {"<end_of_utterance>": 415},
    ),
}


@pytest.mark.parametrize(("geometry", "ids"), REAL_IDS.values(), ids=REAL_IDS)
def test_special_tokens_have_the_ids_of_the_real_model(geometry, ids):
    made = tokenizer(*geometry)
    assert {token: made.token_to_id(token) for token in ids} == ids


# Ids of a cut image (4 x 4 tiles of 64 tokens) in the real tokenizer of each vocabulary: with
# <row_r_col_c> a token, and as the text "<", "row", "_", "1", "_", "col", "_", "1", ">".
@pytest.mark.parametrize(
    ("geometry", "expected"), [((49280, 49190), 1127), ((49155, 49153), 1127 + 16 * 8 + 4)]
)
def test_a_cut_image_takes_as_many_ids_as_in_the_real_model(geometry, expected):
    from runtimes.prepare.prompt import image_text

    prompt = SMOLVLM.prompt(VLM, Section({}, "config.json"))
    encoding = tokenizer(*geometry).encode(image_text(prompt, 4, 4, 64))
    assert len(encoding.ids) == expected


GEOMETRIES = [(49280, 49190), (49155, 49153), (416, 414), (320, 300), (262, 259)]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_id_of_the_vocabulary_is_a_token(geometry):
    made = tokenizer(*geometry)
    assert made.get_vocab_size() == geometry[0]
    assert None not in [made.id_to_token(number) for number in range(geometry[0])]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("text", ["User: 42 cats\n\n", "Ünïcödé 漢字 🎈", " row", "Ġ#400 #400", ""])
def test_text_survives_encoding_and_decoding(geometry, text):
    made = tokenizer(*geometry)
    ids = made.encode(text).ids
    assert made.decode(ids) == text
    assert all("#4" not in made.id_to_token(number) for number in ids)


@pytest.mark.parametrize("word", SMOLLM2.words)
def test_a_word_of_the_prompt_is_one_id(word):
    assert len(tokenizer(49280, 49190).encode(word).ids) == 1


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_transformers_loads_the_files(geometry, tmp_path: Path):
    from transformers import AutoTokenizer

    for name, content in synthetic_tokenizer(vlm(*geometry), SMOLVLM.special_tokens).items():
        (tmp_path / name).write_bytes(content)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "<|im_start|>User:<image>a  3\n\n4<end_of_utterance>\nAssistant:"
    assert loaded(text)["input_ids"] == tokenizer(*geometry).encode(text).ids
    assert (loaded.bos_token_id, loaded.pad_token_id) == (1, 2)
    assert loaded.eos_token_id == geometry[0] - 1
    assert len(loaded) == geometry[0]


def test_the_files_are_the_same_each_time():
    first = synthetic_tokenizer(VLM, SMOLVLM.special_tokens)
    assert synthetic_tokenizer(VLM, SMOLVLM.special_tokens) == first
    assert all(json.loads(content) for content in first.values())


@pytest.mark.parametrize("geometry", [(260, 258), (416, 415), (49155, 49155)])
def test_a_vocabulary_without_room_is_a_user_error(geometry):
    with pytest.raises(UserError, match=r"config\.json: vocab_size"):
        tokenizer(*geometry)
