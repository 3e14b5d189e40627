"""Prompt ids equal Idefics3Processor's, and invalid requests and tokenizers are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from export.checkpoint.tokenizer import synthetic_tokenizer
from export.errors import UserError
from export.families.section import Section
from export.families.smolvlm import SMOLVLM
from export.modeling.decoder import Decoder
from export.modeling.pixel_shuffle import PixelShuffle
from export.modeling.vision import TileVision
from export.modeling.vit import Vit
from export.modeling.vlm import Vlm
from runtimes.base import Request
from runtimes.prepare.request import Preparer

TOWER = Vit(1, 32, 64, 2, image_size=32, patch_size=8, norm_eps=1e-6, activation="gelu_tanh")
TEXT = Decoder(1, 32, 64, 2, 2, 16, 416, 2048, 1e4, 1e-5, "silu", tied=False)
VLM = Vlm("smolvlm", TileVision(TOWER, PixelShuffle(2), 414), TEXT, 1, (415,))
RECIPE = SMOLVLM.image(VLM, Section({}, "preprocessor_config.json"))
PROMPT = SMOLVLM.prompt(VLM, Section({}, "config.json"))
TOKENIZER = synthetic_tokenizer(VLM, SMOLVLM.special_tokens)
CHAT = (  # chat_template.json of HuggingFaceTB/SmolVLM-256M-Instruct
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


@pytest.fixture
def preparer() -> Preparer:
    return Preparer(RECIPE, PROMPT, TOKENIZER["tokenizer.json"], VLM.image_token_id)


@pytest.fixture(scope="module", params=[True, False], ids=["split", "whole"])
def processor(request, tmp_path_factory) -> Idefics3Processor:
    folder = tmp_path_factory.mktemp("processor")
    for name, content in TOKENIZER.items():
        (folder / name).write_bytes(content)
    image_processor = Idefics3ImageProcessorPil(
        size={"longest_edge": RECIPE.longest_edge},
        max_image_size={"longest_edge": RECIPE.tile},
        do_image_splitting=request.param,
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Idefics3Processor(
        image_processor, tokenizer, image_seq_len=VLM.vision.tokens_per_tile, chat_template=CHAT
    )


def image(width: int, height: int, colour: str = "red") -> Image.Image:
    return Image.new("RGB", (width, height), colour)


IMAGES = {
    "no image": (),
    "a square": (image(50, 50),),
    "a wide one": (image(900, 30),),
    "a tall one": (image(3, 500),),
    "two": (image(50, 50), image(100, 40, "blue")),
    "three": (image(20, 30), image(30, 20), image(9, 9)),
}
QUESTIONS = (
    "What is in this image?",
    "",
    " leading and trailing ",
    "line\n\n2 lines\n",
    "Wie viele Äpfel? 漢字 🎈👩‍👩‍👧 עברית \u200b\u00a0",
    "a  3, 1234.5 and {question} {images} %s {0}",
    "<im_start> User: \\n <row_1> </s>",
)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_ids_and_pixels_equal_the_processor(images, question, processor):
    settings = {"do_image_splitting": processor.image_processor.do_image_splitting}
    recipe = SMOLVLM.image(VLM, Section(settings, "preprocessor_config.json"))
    preparer = Preparer(recipe, PROMPT, TOKENIZER["tokenizer.json"], VLM.image_token_id)
    content = [{"type": "image"}] * len(images) + [{"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    theirs = processor(text=text, images=list(images) or None, return_tensors="np")

    ours = preparer(Request(question, images))
    assert ours.ids.dtype == np.int64
    np.testing.assert_array_equal(ours.ids, theirs["input_ids"][0])
    if images:
        values = np.concatenate([one.values for one in ours.images])
        np.testing.assert_array_equal(values, theirs["pixel_values"][0])


def test_prompt_of_one_small_image_is_written_out():
    recipe = SMOLVLM.image(VLM, Section({"size": {"longest_edge": 32}}, "preprocessor_config.json"))
    preparer = Preparer(recipe, PROMPT, TOKENIZER["tokenizer.json"], VLM.image_token_id)
    ids = preparer(Request("the image", (image(9, 9),))).ids
    assert preparer.text(ids.tolist()) == "User:the image\nAssistant:"
    assert ids[:10].tolist() == [1, ids[1], ids[2], 413, 376, 414, 414, 414, 414, 413]


def test_given_ids_are_used_unchanged(preparer):
    assert preparer(Request("ignored", ids=(5, 6, 415))).ids.tolist() == [5, 6, 415]


def test_answer_text_has_no_special_tokens(preparer):
    ids = preparer(Request("naïve 漢")).ids.tolist()
    assert preparer.text([1, *ids, 415, 2]) == "User: naïve 漢\nAssistant:"
    assert preparer.text([]) == ""


ONE = (image(50, 50),)  # 4 x 4 tiles and the overview, of 4 tokens each
REFUSED = {
    "an image token in the question": (Request("what <image> is", ONE), "contains '<image>'"),
    "an end token in the question": (Request("hi<end_of_utterance>"), "contains '<end_of_utt"),
    "a question that is not Unicode": (Request("caf\udce9"), "not valid Unicode"),
    "ids without the image's tokens": (Request(images=ONE, ids=(5, 6)), "has 0 image tokens"),
    "ids with tokens of no image": (Request(ids=(5, 414)), "has 1 image tokens .* take 0"),
    "no ids": (Request(ids=()), "prompt ids: none"),
    "a negative id": (Request(ids=(5, -1)), "prompt ids: -1 to 5"),
    "an id beyond the vocabulary": (Request(ids=(5, 416)), "has ids 0 to 415"),
    "an id beyond all integers": (Request(ids=(5, 2**70)), "has ids 0 to 415"),
    "an empty image": (Request("hi", (*ONE, image(0, 3))), "image 2 of the request: an empty"),
}


@pytest.mark.parametrize(("request_", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_request_is_refused_in_one_line(request_, message, preparer):
    with pytest.raises(UserError, match=message) as caught:
        preparer(request_)
    assert "\n" not in str(caught.value)


def test_truncated_image_is_refused_when_it_is_decoded(preparer, tmp_path):
    Image.effect_noise((90, 90), 50).convert("RGB").save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:4000])
    with (
        Image.open(tmp_path / "half.png") as lazy,
        pytest.raises(UserError, match="image 1 of the request: damaged"),
    ):
        preparer(Request("hi", (lazy,)))


TOKENIZERS = {
    "no JSON": (b"{", "not a tokenizer"),
    "no text": (b"\xff\xfe", "not a tokenizer"),
    "other JSON": (b"[1]", "not a tokenizer"),
    "a tokenizer without the image token": (
        TOKENIZER["tokenizer.json"].replace(b'"<image>"', b'"<picture>"'),
        "'<image>' has id None, the model's is 414",
    ),
}


@pytest.mark.parametrize(("content", "message"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_tokenizer_that_does_not_fit_is_refused(content, message, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    for source, name in ((content, "tokenizer.json"), (path, str(path))):
        with pytest.raises(UserError, match=message) as caught:
            Preparer(RECIPE, PROMPT, source, VLM.image_token_id)
        assert str(caught.value).startswith(f"{name}: ")


def test_missing_tokenizer_is_refused():
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        Preparer(RECIPE, PROMPT, Path("nowhere"), VLM.image_token_id)


def test_truncation_and_padding_of_the_tokenizer_are_turned_off(preparer):
    import json

    cut = json.loads(TOKENIZER["tokenizer.json"]) | {
        "truncation": {
            "direction": "Right",
            "max_length": 3,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": {
            "strategy": {"Fixed": 99},
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 2,
            "pad_type_id": 0,
            "pad_token": "<|im_end|>",
        },
    }
    cutting = Preparer(RECIPE, PROMPT, json.dumps(cut).encode(), VLM.image_token_id)
    request = Request("a longer question")
    np.testing.assert_array_equal(cutting(request).ids, preparer(request).ids)


def test_questions_about_the_same_images_reuse_their_pixels(preparer):
    first = preparer(Request("one", ONE))
    again = preparer(Request("two", (ONE[0].copy(),)))
    fresh = preparer(Request("two", ONE, reuse=False))
    assert again.images[0] is first.images[0]
    assert fresh.images[0] is not first.images[0]
    assert first.images_key == again.images_key == fresh.images_key


def test_images_with_a_key_are_compared_by_key(preparer):
    first = preparer(Request("one", ONE, images_key="a"))
    again = preparer(Request("two", ONE, images_key="a"))
    other = preparer(Request("two", ONE, images_key="b"))
    fresh = preparer(Request("two", ONE, images_key="b", reuse=False))
    assert again.images[0] is first.images[0]
    assert other.images[0] is not first.images[0]
    assert fresh.images[0] is not other.images[0]
    keys = {
        first.images_key,
        again.images_key,
        other.images_key,
        preparer(Request("", ONE)).images_key,
    }
    assert len(keys) == 3


def palette(colours: list[int]) -> Image.Image:
    made = Image.new("P", (8, 8), 1)
    made.putpalette(colours)
    return made


def test_different_images_have_different_keys(preparer):
    sets = [
        (),
        (image(50, 50),),
        (image(50, 50, "blue"),),
        (image(25, 100),),
        (image(50, 25), image(50, 25)),
        (image(50, 50), image(50, 50)),
        (palette([0, 0, 0, 9, 9, 9]),),
        (palette([0, 0, 0, 9, 9, 8]),),
    ]
    assert len({preparer(Request("hi", images)).images_key for images in sets}) == len(sets)


CONFIGS = {
    "no antialiasing filter but LANCZOS": {"resample": 3},
    "no resizing": {"do_resize": False},
    "a tower of another size": {"max_image_size": {"longest_edge": 64}},
    "a size by height and width": {"size": {"height": 32, "width": 32}},
    "a size that is a number": {"size": 32},
    "a size of nothing": {"size": {"longest_edge": 0}},
    "two means": {"image_mean": [0.5, 0.5]},
    "words for numbers": {"image_std": ["a", "b", "c"]},
    "a word to multiply by": {"rescale_factor": "1/255"},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_preprocessor_that_no_recipe_can_express_is_refused(config):
    with pytest.raises(UserError, match=r"^preprocessor_config\.json: "):
        SMOLVLM.image(VLM, Section(config, "preprocessor_config.json"))
