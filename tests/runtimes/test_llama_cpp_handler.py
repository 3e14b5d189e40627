"""llama-cpp-python's multimodal chat handlers load an artifact's two files and give the answers of
our runtime."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tiny_models import tiny_artifact
from tokenizers import Tokenizer

from export.checkpoint.registry import open_model
from export.images import Tiles
from export.model import Model
from runtimes.base import Request
from runtimes.llama_cpp.session import open_session
from runtimes.proof.probes import probes

pytest.importorskip("llama_cpp")


def smolvlm() -> Model:
    """The twin with images cut into tiles, as in the released models and always in mtmd."""
    model = open_model("tiny-smolvlm")
    assert isinstance(model.image, Tiles)
    return replace(model, image=replace(model.image, longest_edge=2 * model.image.tile))


# The model, the library's handler, and the edge of an image that mtmd does not resize: its lower
# limit of Qwen's image tokens is 8.
CASES: dict[str, tuple[Callable[[], Model], str, int]] = {
    "smolvlm": (smolvlm, "MTMDChatHandler", 128),
    "qwen2.5-vl": (lambda: open_model("tiny-qwen2.5-vl"), "MTMDChatHandler", 112),
    "qwen2.5-vl, its own": (lambda: open_model("tiny-qwen2.5-vl"), "Qwen25VLChatHandler", 112),
    "gemma3": (lambda: open_model("tiny-gemma3"), "MTMDChatHandler", 64),
}


def address(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


@pytest.mark.parametrize("case", CASES)
def test_chat_handler_of_the_library_answers_like_our_runtime(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from llama_cpp import Llama, llama_chat_format

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
    theirs = getattr(llama_chat_format, name)(clip_model_path=vision, verbose=False)
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
    if case != "smolvlm":  # its twin was trained on images of one tile
        assert ours == "red"
