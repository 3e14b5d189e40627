"""Makes tests/golden/moondream.npz with the author's own code, which is not part of this project.

    git clone https://github.com/vikhyat/moondream
    git -C moondream worktree add ../legacy 54d00c2    # until 2025-04-14's tokenizer
    git -C moondream worktree add ../starmie 44146f1   # 2025-06-21's
    for g in legacy starmie; do
        PYTHONPATH=.:tests/shared python tests/golden/make_moondream.py $g PATH_TO_ITS_WORKTREE
    done

Run without pyvips, so that images go through Pillow as they do here. The code casts images and eyes
to bfloat16 whatever its weights are; here all is float32.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import tiny_moondream as tiny
import torch
from tokenizers import Tokenizer

from export.model import Model

FOLDER = Path(__file__).parent
ROWS = slice(None, None, 81)
"""Image positions whose features are kept, of 729."""
VOCAB = slice(7, None, 400)
"""Logits that are kept, of 51200."""


def reference(checkout: Path, model: Model, config: dict[str, Any]) -> Any:
    """The author's model with our tiny weights, in float32."""
    torch.bfloat16 = torch.float32  # type: ignore[misc]
    sys.path.insert(0, str(checkout))
    for name in ("torchao", "torchao.quantization"):  # imported there, but not for floats
        sys.modules[name] = MagicMock()
    Tokenizer.from_pretrained = lambda *args, **kwargs: Tokenizer.from_str(
        model.files["tokenizer.json"].decode()
    )
    from moondream.torch.config import MoondreamConfig
    from moondream.torch.moondream import MoondreamModel

    # Its projection takes the number of layers for the side of the grid of patches.
    parts = config["config"]
    layers, side = parts["vision"]["enc_n_layers"], model.vlm.vision.tower.side
    vision = parts["vision"] | {"enc_n_layers": side}
    theirs = MoondreamModel(
        MoondreamConfig.from_dict(parts | {"vision": vision}), dtype=torch.float32
    )
    theirs.vision["blocks"] = theirs.vision["blocks"][:layers]
    weights = {
        name.removeprefix("model."): torch.from_numpy(values.copy())
        for name, values in tiny.stored(model).items()
    }
    left = theirs.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys
    assert all("kv_cache" in name for name in left.missing_keys)
    return theirs.eval()


class Recorded:
    """What the model computes while it answers one request."""

    def __init__(self, theirs: Any) -> None:
        self.model = theirs
        self.ids: list[int] = []
        self.tokens: list[int] = []
        self.logits: list[np.ndarray] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        embed = sys.modules["moondream.torch.moondream"].text_encoder
        head = sys.modules["moondream.torch.moondream"].lm_head

        def heard_ids(ids: torch.Tensor, weights: Any) -> torch.Tensor:
            (self.tokens if self.logits else self.ids).extend(ids.flatten().tolist())
            return embed(ids, weights)

        def heard_logits(hidden: torch.Tensor, weights: Any) -> torch.Tensor:
            logits = head(hidden, weights)
            self.logits.append(logits[0].numpy().copy())
            return logits

        module = sys.modules["moondream.torch.moondream"]
        module.text_encoder, module.lm_head = heard_ids, heard_logits
        try:
            yield
        finally:
            module.text_encoder, module.lm_head = embed, head


def answer(theirs: Any, task: str, image: Any) -> dict[str, Any]:
    """Ids of the prompt behind the image, tokens, logits of each step and places."""
    request, recorded = tiny.REQUESTS[task], Recorded(theirs)
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": request.max_tokens}
    settings |= {"max_objects": tiny.MOST, "variant": None}
    places: list[list[float]] = []
    with recorded.listening():
        if task == "query":
            theirs.query(image, request.question, settings=settings)
        elif task.startswith("caption"):
            length = task.partition("-")[2] or "normal"
            theirs.caption(image, length, settings=settings)
        elif task == "gaze":
            found = theirs._detect_gaze(image, request.region)
            places = [list(found.values())] if found else []
        else:
            made = getattr(theirs, task)(image, request.question, settings=settings)
            places = [list(one.values()) for one in next(iter(made.values()))]
    return {
        "ids": recorded.ids,
        "tokens": recorded.tokens,
        "places": places,
        "logits": np.stack([logits[VOCAB] for logits in recorded.logits]),
    }


def crops() -> dict[str, Any]:
    """Rows, columns and SHA-256 of all crops, of many sizes and modes."""
    from moondream.torch.image_crops import HAS_VIPS, overlap_crop_image

    assert not HAS_VIPS
    images = {f"{w}x{h}": tiny.noise(w, h) for w, h in tiny.SIZES}
    images |= {mode: tiny.image_of(mode) for mode in tiny.MODES}
    made = {}
    for name, image in images.items():
        array = np.array(image.convert("RGB"))
        found = overlap_crop_image(array, overlap_margin=4, max_crops=12)
        digest = hashlib.sha256(found["crops"].tobytes()).hexdigest()
        made[name] = [list(found["tiling"]), digest]
    return made


@torch.inference_mode()
def main(tokenizer: str, checkout: Path) -> None:
    """Write what belongs to one generation of the tokenizer."""
    model = tiny.tiny_moondream(tokenizer)
    theirs = reference(checkout, model, tiny.config(tokenizer))
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {"crops": crops()}
    for cut, (size, most) in tiny.CUTS.items():
        image = tiny.noise(*size)
        object.__setattr__(theirs.config.vision, "max_crops", most)
        prepared, tiling = sys.modules["moondream.torch.vision"].prepare_crops(
            image, theirs.config.vision, "cpu"
        )
        assert tiling == cut, (size, tiling, cut, prepared.shape)
        where = f"{cut[0]}x{cut[1]}"
        arrays[f"{where}/features"] = theirs._run_vision_encoder(image)[ROWS].numpy()
        encoded = theirs.encode_image(image)
        for task in tiny.REQUESTS:
            made = answer(theirs, task, encoded)
            arrays[f"{where}/{task}/logits"] = made.pop("logits")
            facts[f"{where}/{task}"] = made
    if tokenizer == "starmie":  # the older code has no question without an image
        made = answer(theirs, "query", None)
        arrays["no image/query/logits"] = made.pop("logits")
        facts["no image/query"] = made
    np.savez_compressed(FOLDER / f"moondream-{tokenizer}.npz", **arrays)
    text = json.dumps(facts, indent=0, sort_keys=True) + "\n"
    (FOLDER / f"moondream-{tokenizer}.json").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
