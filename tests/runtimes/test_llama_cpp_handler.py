"""llama-cpp-python's own multimodal chat handlers load an artifact's two files and answer as our
runtime does."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_models import tiny_artifact
from tokenizers import Tokenizer

from export.families.inputs import Tiles
from export.model import Model
from export.registry import open_model
from runtimes.base import Request
from runtimes.llama_cpp_ import open_session
from runtimes.probes import probes

pytest.importorskip("llama_cpp")


def smolvlm() -> Model:
    """The twin as the released models are: images are split, and two line ends are one token.

    mtmd takes both for granted. The token stands in the place of the vocabulary's last one.
    """
    model = open_model("tiny-smolvlm")
    assert isinstance(model.image, Tiles)
    tokenizer = json.loads(model.files["tokenizer.json"])
    vocab, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    vocab["ĊĊ"] = vocab.pop("".join(merges.pop()))
    merges.append(["Ċ", "Ċ"])
    image = replace(model.image, longest_edge=2 * model.image.tile)
    files = {**model.files, "tokenizer.json": json.dumps(tokenizer).encode()}
    return replace(model, image=image, files=files)


# The model, the library's handler, and the edge of an image that mtmd leaves as it is: its limits
# of Qwen's image tokens begin at 8.
CASES: dict[str, tuple[Callable[[], Model], str, int]] = {
    "smolvlm": (smolvlm, "MTMDChatHandler", 128),
    "qwen2.5-vl": (lambda: open_model("tiny-qwen2.5-vl"), "MTMDChatHandler", 112),
    "qwen2.5-vl, its own": (lambda: open_model("tiny-qwen2.5-vl"), "Qwen25VLChatHandler", 112),
    "gemma3": (lambda: open_model("tiny-gemma3"), "MTMDChatHandler", 64),
}


def handler(name: str, mmproj: str) -> Any:
    """A handler of llama-cpp-python's, silent."""
    from llama_cpp import llama_chat_format

    found = getattr(llama_chat_format, name)(clip_model_path=mmproj, verbose=False)
    if name == "Qwen25VLChatHandler":
        # Jinja drops the last line end of a template, and a prompt then ends in
        # "<|im_start|>assistant". Qwen itself goes on with a line end, the twin never learnt to.
        found.CHAT_FORMAT += "\n"
    return found


def address(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


@pytest.mark.parametrize("case", CASES)
def test_the_librarys_own_handler_answers_as_our_runtime(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from llama_cpp import Llama

    make, name, edge = CASES[case]
    model, probe = make(), probes(edge)[0]
    artifact = tiny_artifact(model, "gguf", "int8", tmp_path)
    session = open_session(artifact, threads=1)
    events = session.generate(Request(probe.question, probe.images, max_tokens=8))
    ids = [event.token for event in events if event.token is not None]
    session.close()
    tokenizer = Tokenizer.from_str(model.files["tokenizer.json"].decode())
    ours = tokenizer.decode(ids, skip_special_tokens=True).strip()

    files = artifact.manifest.components
    decoder, vision = (str(tmp_path / files[part][0]) for part in ("decoder", "vision"))
    theirs = handler(name, vision)
    llama = Llama(decoder, chat_handler=theirs, n_ctx=512, n_threads=1, verbose=False)
    content = [
        {"type": "image_url", "image_url": {"url": address(probe.images[0])}},
        {"type": "text", "text": probe.question},
    ]
    found = llama.create_chat_completion(
        messages=[{"role": "user", "content": content}],
        temperature=0,
        repeat_penalty=1,
        max_tokens=8,
    )
    llama.close()
    assert found["choices"][0]["message"]["content"].strip() == ours != ""
    if case != "smolvlm":  # whose twin was trained on whole images
        assert ours == "red"
