"""Packs .tflite models, tokenizer and metadata into one .litertlm file."""

from collections.abc import Mapping
from pathlib import Path

from export.library_log import kept
from export.litert import metadata
from export.litert.library import builder
from export.litert.networks import Kind
from export.model import Model

TOKENIZER = "tokenizer.json"


def pack(model: Model, models: Mapping[Kind, Path], work: Path, path: Path) -> None:
    """Writes the bundle to `path`; `work` is a folder for files that it is made of.

    The library adds the time and a random number, so that no two bundles are equal.
    """
    messages = {"llm": metadata.of_model(model), "decoder": metadata.of_decoder(model)}
    for name, message in messages.items():
        (work / f"{name}.pb").write_bytes(message.SerializeToString())
    (work / TOKENIZER).write_bytes(model.files[TOKENIZER])
    made = builder.LitertLmFileBuilder()
    with kept(1, 2):
        made.add_llm_metadata(str(work / "llm.pb"))
        made.add_executor_metadata(str(work / "decoder.pb"))
        made.add_hf_tokenizer(str(work / TOKENIZER))
        for kind, file in models.items():
            made.add_tflite_model(str(file), builder.TfLiteModelType(f"tf_lite_{kind}"))
        with path.open("wb") as stream:
            made.build(stream)
