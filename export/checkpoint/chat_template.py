"""Finds a checkpoint's chat template, and checks that it makes the prompts that we make.

Prompts come from the family's recipe (export/prompts.py). A chat template that writes another
prompt belongs to a model that was trained with that one, so the model is not opened.
"""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from export.checkpoint.tokenizer_files import special_tokens
from export.errors import UserError
from export.families.spec import Family
from export.files import few, parse_json, plain_text, short
from export.prompts import ChatTemplate, Prompt

JINJA, TOKENIZER = "chat_template.jinja", "tokenizer_config.json"
PROCESSOR, LEGACY = "processor_config.json", "chat_template.json"
KEY, DEFAULT = "chat_template", "default"
QUESTION = "what color is the shape?"
BEFORE, SHOWN = 12, 40
"""Characters that an error shows of a prompt: before its first difference, and in all."""
RENDER, CPU_S, MEMORY_BYTES = Path(__file__).with_name("render.py"), 2, 1 << 30


@dataclass(frozen=True)
class Case:
    """A question with `images` images that a chat template is tried on.

    listed: the form of its messages, as in `messages`. wanted: the built-in prompt, with what the
    chat template writes for an image.
    """

    images: int
    listed: bool
    wanted: str


def checked(
    files: Mapping[str, bytes], folder: Path, prompt: Prompt, family: Family, bos: str | None
) -> tuple[ChatTemplate | None, tuple[str, ...]]:
    """Returns a checkpoint's chat template, if it has one, and notes for the user, a line each.

    Of several files the template is in the one that transformers reads. `files`: name -> content.
    `bos`: the begin-of-text token, if tokenizer_config.json does not say. Raises UserError unless
    the template makes the same prompts as the family's recipe, of a question with no, one and two
    images.
    """
    found = _templates(files, folder, prompt)
    if not found:
        return None, (
            f"the checkpoint has no chat template; prompts are the built-in ones of {family.name}",
        )
    named = {"bos_token": bos} | special_tokens(files)
    tokens = {key: token for key, token in named.items() if token is not None}
    first, *others = found
    listed, wrong = _tried(first, prompt, family, tokens)
    if wrong is not None:
        raise UserError(
            f"{folder / first.file}: its chat template {wrong}; prompts other than the built-in "
            f"one are not supported: if the model was trained with that one, take the chat "
            f"template of the original model"
        )
    return replace(first, listed=listed), tuple(
        f"{other.file} has another chat template than {first.file}, which transformers takes: it "
        f"{wrong}"
        for other in others
        if (wrong := _tried(other, prompt, family, tokens)[1]) is not None
    )


def messages(question: str, images: int, listed: bool) -> list[dict[str, Any]]:
    """Returns the conversation that asks a question about so many images before it.

    listed: whether its content is a list, as processors take it, or plain text, as tokenizers do.
    """
    parts = [*[{"type": "image"}] * images, {"type": "text", "text": question}]
    return [{"role": "user", "content": parts if listed else question}]


def _templates(files: Mapping[str, bytes], folder: Path, prompt: Prompt) -> list[ChatTemplate]:
    """Returns the chat templates of a checkpoint, first the one that transformers takes.

    A processor, which models with images have, looks into other files than a tokenizer
    (transformers 5: processing_utils.py, tokenization_utils_base.py). Files that it does not look
    into come last.
    """
    processor, tokenizer = (PROCESSOR, LEGACY), (JINJA, TOKENIZER)
    text_only = prompt.image_token is None
    order = (*tokenizer, *reversed(processor)) if text_only else (*processor, *tokenizer)
    sources = [(name, _source(files[name], name, folder)) for name in order if name in files]
    return [ChatTemplate(name, source) for name, source in sources if source is not None]


def _tried(
    found: ChatTemplate, prompt: Prompt, family: Family, tokens: Mapping[str, str]
) -> tuple[bool, str | None]:
    """Compares a chat template's prompts with the built-in ones.

    Returns whether it takes a question without images as a list, and how the first prompt that
    differs does so: a phrase that begins with a verb; None: they are equal. `tokens`: the special
    tokens that the template may name.
    """
    cases = _cases(prompt, family)
    asked = json.dumps([messages(QUESTION, case.images, case.listed) for case in cases])
    results = _rendered(found.source, asked, tuple(tokens.items()))
    pairs = list(zip(cases, results, strict=True))
    listed = True
    for images in dict.fromkeys(case.images for case in cases):
        forms = [pair for pair in pairs if pair[0].images == images]
        case, result = max(forms, key=lambda pair: _equal(pair[1].get("text", ""), pair[0].wanted))
        if result.get("text") != case.wanted:
            return case.listed, _differs(result, case, family)
        listed = listed and case.listed
    return listed, None


def _equal(text: str, wanted: str) -> float:
    """Returns how many characters are equal from the beginning; infinity: all are."""
    if text == wanted:
        return math.inf
    pairs = zip(text, wanted, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _cases(prompt: Prompt, family: Family) -> list[Case]:
    """Returns a question without images in both forms, the usual one first, and with images.

    A chat template needs to take only one of the two forms.
    """
    text_only, plain = prompt.image_token is None, prompt.text("", QUESTION)
    cases = [Case(0, listed, plain) for listed in (not text_only, text_only)]
    for images in () if text_only else (1, 2):
        wanted = prompt.text(family.image_in_template * images, QUESTION)
        cases.append(Case(images, True, wanted))
    return cases


def _differs(result: Mapping[str, str], case: Case, family: Family) -> str:
    count = {0: "no image", 1: "one image"}.get(case.images, f"{case.images} images")
    if "text" not in result:
        reason = short(" ".join(result["error"].split()))
        return f"makes no prompt of a question with {count} ({reason})"
    text = result["text"]
    start = max(0, int(_equal(text, case.wanted)) - BEFORE)
    shown = slice(start, start + SHOWN)
    return (
        f"writes {text[shown]!r} where the built-in prompt of {family.name} has "
        f"{case.wanted[shown]!r} ({count})"
    )


@lru_cache(maxsize=64)
def _rendered(
    source: str, conversations: str, variables: tuple[tuple[str, str], ...]
) -> Sequence[Mapping[str, str]]:
    """Returns "text" or "error" for each conversation; a process of its own renders them."""
    asked = {
        "template": source,
        "conversations": json.loads(conversations),
        "variables": dict(variables),
    }
    done = subprocess.run(
        [sys.executable, "-P", str(RENDER), str(CPU_S), str(MEMORY_BYTES)],
        input=json.dumps(asked).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode < 0:
        error = {"error": f"it takes more than {CPU_S} s, or ends Python"}
        return [error] * len(asked["conversations"])
    if done.returncode > 0:
        raise RuntimeError(f"{RENDER}: {done.stderr.decode(errors='replace')}")
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def _source(data: bytes, name: str, folder: Path) -> str | None:
    """Returns the chat template in a file, of several the default one; None: it has none."""
    where = str(folder / name)
    if name == JINJA:
        return plain_text(data, where)
    found: Any = parse_json(data, where).get(KEY)
    if isinstance(found, list) and all(isinstance(item, dict) for item in found):
        found = {str(item.get("name")): item.get("template") for item in found}
    if isinstance(found, dict):
        if DEFAULT not in found:
            raise UserError(
                f"{where}: has chat templates named {few(found)}, none of them '{DEFAULT}'; call "
                f"the one for questions '{DEFAULT}'"
            )
        found = found[DEFAULT]
    if found is None and name != LEGACY:
        return None
    if not isinstance(found, str):
        raise UserError(
            f"{where}: {KEY} is {short(json.dumps(found))}, expected a template's text or a list "
            f"of named templates; take the file of the original model"
        )
    return found
