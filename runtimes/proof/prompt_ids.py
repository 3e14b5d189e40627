"""Compares our prompt ids with those of transformers' tokenizer and the checkpoint's chat template.

The tokenizer is opened alone: a whole processor also needs an image processor and, for families
that take videos, torchvision. So images become tokens in our way here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.checkpoint.chat_template import messages
from export.families import FAMILIES
from export.files import short
from export.model import Model
from export.prompts import Prompt
from runtimes.base import Request
from runtimes.prepare.request import image_texts, preparer_of
from runtimes.proof.probes import Probe

BUILT_IN = "built in, as the checkpoint has no chat template"


@dataclass(frozen=True)
class EqualIds:
    """How many prompts have the ids that transformers' tokenizer makes; None: it cannot be opened.

    prompts: where the compared prompts come from, or why there are none.
    """

    count: int | None
    prompts: str


def compare(model: Model, prompt: Prompt, asked: Sequence[Probe]) -> EqualIds:
    """Compares the ids of the probes' prompts with those of transformers.

    transformers renders the chat template. Without one, only the tokenizers are compared. `prompt`:
    the model's recipe. The model must come from a folder.
    """
    assert model.folder is not None, "random weights have no tokenizer to compare with"
    try:
        tokenizer = _tokenizer(model.folder)
    except (
        ImportError,
        OSError,
        ValueError,
        TypeError,
    ) as error:  # TypeError: of a value in a file
        reason = short(" ".join(str(error).split()), 200)
        return EqualIds(None, f"not compared, transformers cannot open the tokenizer ({reason})")
    preparer = preparer_of(model)
    count = 0
    for probe in asked:
        ours = preparer(Request(probe.question, probe.images))
        texts = image_texts(prompt, ours.images)
        expected = _with_images(_text(model, prompt, probe, tokenizer), texts, model)
        count += ours.ids.tolist() == tokenizer(expected, add_special_tokens=False)["input_ids"]
    return EqualIds(count, model.template.file if model.template else BUILT_IN)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _text(model: Model, prompt: Prompt, probe: Probe, tokenizer: Any) -> str:
    """Returns the prompt of a probe as the chat template writes it, before images become tokens."""
    if model.template is None:
        return prompt.text(_image(model) * len(probe.images), probe.question)
    asked = messages(probe.question, len(probe.images), model.template.listed)
    rendered: str = tokenizer.apply_chat_template(
        asked, chat_template=model.template.source, add_generation_prompt=True, tokenize=False
    )
    return rendered


def _with_images(text: str, images: Sequence[str], model: Model) -> str:
    """Replaces what the chat template wrote for each image by the image's text, in order."""
    first, *rest = text.split(_image(model))
    assert len(rest) == len(images), "the chat template was compared when the model was opened"
    return first + "".join(image + part for image, part in zip(images, rest, strict=True))


def _image(model: Model) -> str:
    return FAMILIES[model.vlm.family].image_in_template
