"""llama-cpp-python's own multimodal chat handler loads an artifact's two files and answers.

The twin of SmolVLM is not among them: mtmd takes a token of two line ends for granted, which the
real tokenizer has and the twin's does not.
"""

import base64
import io
from pathlib import Path

import pytest
from tiny_models import tiny_artifact

from export.registry import open_model
from runtimes.probes import probes

pytest.importorskip("llama_cpp")

# Edge of an image that mtmd leaves as it is: its limits of Qwen's image tokens begin at 8.
EDGES = {"tiny-gemma3": 64, "tiny-qwen2.5-vl": 112}


@pytest.mark.parametrize("name", EDGES)
def test_the_librarys_own_handler_answers(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from llama_cpp import Llama
    from llama_cpp.llama_chat_format import MTMDChatHandler

    files = tiny_artifact(open_model(name), "gguf", "int8", tmp_path).manifest.components
    decoder, vision = (str(tmp_path / files[part][0]) for part in ("decoder", "vision"))
    stream, probe = io.BytesIO(), probes(EDGES[name])[0]
    probe.images[0].save(stream, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    handler = MTMDChatHandler(clip_model_path=vision, verbose=False, use_gpu=False)
    model = Llama(decoder, chat_handler=handler, n_ctx=512, n_threads=1, verbose=False)
    content = [
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "text", "text": probe.question},
    ]
    found = model.create_chat_completion(
        messages=[{"role": "user", "content": content}], temperature=0, max_tokens=8
    )
    assert found["choices"][0]["message"]["content"].strip() == "red"
    model.close()
