"""Makes the files that transformers.js 4 reads in addition to the graphs.

transformers.js takes the names of its classes from config.json and preprocessor_config.json, the
number of data files of each graph from config.json, and the chat template from
tokenizer_config.json or chat_template.jinja.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from export.checkpoint.registry import CONFIG, GENERATION, PREPROCESSOR, PROCESSOR
from export.families.spec import Client
from export.files import parse_json, plain_text
from export.images import ImageRecipe
from export.model import Model
from export.modeling.vlm import Vlm

TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE, OLD_TEMPLATE = "chat_template.jinja", "chat_template.json"
STEPS = ("do_convert_rgb", "do_normalize", "do_rescale", "do_resize")
RESAMPLE: Mapping[str, int] = {"lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers
DTYPES: Mapping[str, str] = {
    "": "fp32",
    "_fp16": "fp16",
    "_quantized": "q8",
    "_q4": "q4",
}
"""Suffix of a graph's name -> dtype in transformers.js (utils/dtypes.js)."""


def files(model: Model, client: Client, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Returns the configuration files that differ from the checkpoint's: file name -> content.

    `client`: transformers.js's names for the model's family. `sizes`: bytes of the files of the
    graphs by path; only the paths are used.
    """
    config, processor = _read(model, CONFIG), _read(model, PROCESSOR)
    tokenizer = _read(model, TOKENIZER_CONFIG)
    template = _template(model, tokenizer)
    changed: dict[str, Any] = {
        CONFIG: {
            **config,
            "text_config": _text_config(model.vlm, client) | config.get("text_config", {}),
            "transformers.js_config": _loading(sizes),
        },
        GENERATION: {**_read(model, GENERATION), "eos_token_id": list(model.vlm.stop_token_ids)},
        # transformers 5 saves it in processor_config.json, which transformers.js does not read.
        PREPROCESSOR: {
            **(_read(model, PREPROCESSOR) or processor.get("image_processor", {})),
            **_steps(model.image),
            "image_processor_type": client.image_processor,
            "processor_class": client.processor,
        },
    }
    if client.tokens_key:
        changed[PROCESSOR] = {
            client.tokens_key: model.vlm.require_vision().tokens_per_tile,
            **processor,
        }
    found = {name: (json.dumps(value, indent=2) + "\n").encode() for name, value in changed.items()}
    if template:
        tokenizer = {**tokenizer, "chat_template": template}
        found[TOKENIZER_CONFIG] = (json.dumps(tokenizer, indent=2) + "\n").encode()
        found[TEMPLATE] = template.encode()
    return found


def _steps(image: ImageRecipe | None) -> dict[str, Any]:
    """Returns the preprocessing for preprocessor_config.json, with every step switched on.

    transformers.js skips the steps that the file leaves out.
    """
    assert image is not None, "layouts of clients are for models with images"
    steps: dict[str, Any] = dict.fromkeys(STEPS, True)
    steps |= {
        "resample": RESAMPLE[image.resample],
        "rescale_factor": image.rescale,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }
    return steps | dict(image.preprocessor())


def _loading(sizes: Mapping[str, int]) -> dict[str, Any]:
    """Returns transformers.js_config: the graphs' dtype, and each one's number of data files."""
    chunks = Counter(name.rpartition("_data")[0] for name in sizes if ".onnx_data" in name)
    graphs = {path.rpartition("/")[2]: count for path, count in chunks.items()}
    suffixes = {name.removesuffix(".onnx").removeprefix(_session(name)) for name in graphs}
    (suffix,) = suffixes
    return {"dtype": DTYPES[suffix], "use_external_data_format": graphs}


def _session(graph: str) -> str:
    stem = graph.removesuffix(".onnx")
    ends = sorted(filter(None, DTYPES), key=len, reverse=True)
    return next((stem.removesuffix(end) for end in ends if stem.endswith(end)), stem)


def _text_config(vlm: Vlm, client: Client) -> dict[str, Any]:
    """Returns the keys of text_config that transformers.js reads; checkpoints may lack them."""
    text = vlm.text
    return {
        "model_type": client.text_model_type,
        "hidden_size": text.hidden,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
        "head_dim": text.head_dim,
        "vocab_size": text.vocab,
    }


def _template(model: Model, tokenizer: Mapping[str, Any]) -> str:
    if TEMPLATE in model.files:
        return plain_text(model.files[TEMPLATE], TEMPLATE)
    written: Any = _read(model, OLD_TEMPLATE).get("chat_template", tokenizer.get("chat_template"))
    return written if isinstance(written, str) else ""


def _read(model: Model, name: str) -> dict[str, Any]:
    """Reads a JSON file of the checkpoint; {} if the checkpoint has no such file."""
    return parse_json(model.files[name], name) if name in model.files else {}
