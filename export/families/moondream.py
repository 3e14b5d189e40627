"""Moondream 2 and 0.5B (the author's own code): ViT over crops, parallel-block decoder, places.

Class defaults and token ids are those of vikhyat/moondream, moondream/torch/config.py, at the
release of 2025-04-14 and, where config.json names that tokenizer, of 2025-06-21.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from export.errors import UserError
from export.families.geometry import Decoder, Overlap, Projector, Region, Tower, Vlm
from export.families.inputs import Crops, Task, Templates
from export.families.spec import Family, Gguf, Json, Source, Vocabulary
from export.files import short
from export.shapes import shapes

HALF = (0.5, 0.5, 0.5)
EPS = 1e-5  # torch's default, which the code leaves as it is
MOST_PLACES = 50
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Generation:
    """What goes with one of the two tokenizers."""

    bos: int
    templates: Json
    before_question: str = ""
    answer: Ids = ()
    """Ids that begin an answer, so that nothing after its first token may be one."""


# GPT-2's tokenizer, until 2025-04-14. 2025-01-09 has no space before a question.
LEGACY = Generation(
    bos=50256,
    templates={
        "caption": {
            "normal": (198, 198, 24334, 1159, 25),
            "short": (198, 198, 16438, 8305, 25),
            "long": (198, 198, 14617, 8305, 25),
        },
        "query": {"prefix": (198, 198, 24361, 25), "suffix": (198, 198, 33706, 25)},
        "detect": {"prefix": (198, 198, 47504, 25), "suffix": (628,)},
        "point": {"prefix": (198, 198, 12727, 25), "suffix": (628,)},
    },
    before_question=" ",
)
# moondream/starmie-v1, 2025-06-21.
STARMIE = Generation(
    bos=0,
    templates={
        "caption": {
            "normal": (1, 32708, 2, 6382, 3),
            "short": (1, 32708, 2, 12492, 3),
            "long": (1, 32708, 2, 4059, 3),
        },
        "query": {"prefix": (1, 15381, 2), "suffix": (3,)},
        "detect": {"prefix": (1, 7235, 476, 2), "suffix": (3,)},
        "point": {"prefix": (1, 2581, 2), "suffix": (3,)},
    },
    answer=(3,),
)


def read(config: Json) -> Vlm:
    """Numbers of a config.json whose `config` overrides the code's defaults (on the hub: none)."""
    parts = _section(config, "config")
    text, vision = _section(parts, "text"), _section(parts, "vision")
    region, tokenizer = _section(parts, "region"), _section(parts, "tokenizer")
    hidden, generation = text.get("dim", 2048), _generation(tokenizer)
    margin, crops = vision.get("overlap_margin", 4), vision.get("max_crops", 12)
    projector = Projector(
        "crops", 1, overlap=Overlap(margin, crops), inner=vision.get("proj_inner_dim", 8192)
    )
    vlm = Vlm(
        family="moondream",
        vision=_tower(vision),
        projector=projector,
        text=_decoder(text),
        # No token: the last row of the embedding, behind all that the tokenizer has.
        image_token_id=text.get("vocab_size", 51200) - 1,
        bos_token_id=tokenizer.get("bos_id", generation.bos),
        stop_token_ids=(tokenizer.get("eos_id", generation.bos),),
        region=_region(region),
    )
    _expect("vision.proj_out_dim", vision.get("proj_out_dim", 2048), hidden)
    _expect("region.dim", region.get("dim", 2048), hidden)
    _expect("text.prefix_attn", vlm.text.prefix, 1 + vlm.sight.vision.patches)
    for name, part in (("text", text), ("region", region)):
        _expect(f"{name}.group_size", part.get("group_size"), None)
    return vlm


def _tower(vision: Json) -> Tower:
    return Tower(
        layers=vision.get("enc_n_layers", 27),
        hidden=vision.get("enc_dim", 1152),
        intermediate=vision.get("enc_ff_dim", 4304),
        heads=vision.get("enc_n_heads", 16),
        image_size=vision.get("crop_size", 378),
        patch_size=vision.get("enc_patch_size", 14),
        norm_eps=EPS,
        activation="gelu_tanh",
        channels=vision.get("in_channels", 3),
    )


def _decoder(text: Json) -> Decoder:
    hidden, heads = text.get("dim", 2048), text.get("n_heads", 32)
    return Decoder(
        layers=text.get("n_layers", 24),
        hidden=hidden,
        intermediate=text.get("ff_dim", 8192),
        heads=heads,
        # Left out by the 0.5B's file, which is older than the key.
        kv_heads=text.get("n_kv_heads", heads),
        head_dim=hidden // heads,
        vocab=text.get("vocab_size", 51200),
        context=text.get("max_context", 2048),
        rope_theta=1e4,
        norm_eps=EPS,
        activation="gelu_tanh",
        tied=False,
        prefix=text.get("prefix_attn", 730),
        rope_dims=hidden // heads // 2,
        norm="layer",
        parallel=True,
        fused_qkv=True,
        biases=True,
        gated=False,
    )


def _region(region: Json) -> Region:
    # The file counts cosines and sines, and both sizes' bins together.
    return Region(
        inner=region.get("inner_dim", 8192),
        coord_features=region.get("coord_feat_dim", 256) // 2,
        coord_bins=region.get("coord_out_dim", 1024),
        size_features=region.get("size_feat_dim", 512) // 2,
        size_bins=region.get("size_out_dim", 2048) // 2,
    )


def _section(config: Json, key: str) -> Json:
    found: Any = config.get(key, {})
    if not isinstance(found, Mapping):
        raise UserError(f"config.json: {key} is {short(str(found))}, expected an object")
    return found


def _expect(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise UserError(
            f"config.json: {name} is {short(str(found))}, but only {expected} is supported for "
            f"this geometry"
        )


def _generation(tokenizer: Json) -> Generation:
    return STARMIE if tokenizer.get("bos_id", LEGACY.bos) == STARMIE.bos else LEGACY


def image(vlm: Vlm, preprocessor: Json) -> Crops:
    """Image recipe; the author's code has it in image_crops.py, and no file beside it."""
    overlap = vlm.sight.projector.overlap
    assert overlap is not None
    return Crops(
        tile=vlm.sight.vision.image_size,
        margin=overlap.margin * vlm.sight.vision.patch_size,
        max_crops=overlap.crops,
        mean=HALF,
        std=HALF,
        rescale=1 / 255,
    )


def prompt(vlm: Vlm, config: Json) -> Templates:
    """The templates of moondream.py; its own ids where config.json has them."""
    tokenizer = _section(_section(config, "config"), "tokenizer")
    generation = _generation(tokenizer)
    known = {**generation.templates, **_section(tokenizer, "templates")}
    placeholder = vlm.image_token_id
    assert placeholder is not None, "Moondream has images"
    return Templates(
        start=(vlm.bos_token_id,),
        placeholder=placeholder,
        image_positions=vlm.sight.vision.patches,
        tasks=dict(_tasks({key: ids for key, ids in known.items() if ids}, generation)),
        never_later=tuple(tokenizer.get("answer_id", id_) for id_ in generation.answer),
    )


def _tasks(templates: Json, generation: Generation) -> list[tuple[str, Task]]:
    tasks = []
    if query := _section(templates, "query"):
        # From 2025-06-21 on the author's query() puts the suffix twice, and only there.
        times = 2 if generation is STARMIE else 1
        closing = generation.before_question + "{question}"
        before, after = _ids(query["prefix"]), _ids(query["suffix"]) * times
        tasks.append(("query", Task(before, "", closing, after, needs=("question",))))
    for length, ids in _section(templates, "caption").items():
        name = "caption" if length == "normal" else f"caption-{length}"
        tasks.append((name, Task(_ids(ids), "", "", (), needs=("image",))))
    if detect := _section(templates, "detect"):
        tasks.append(("detect", _places(detect, "boxes")))
    if point := _section(templates, "point"):
        tasks.append(("point", _places(point, "points")))
        gaze = Task((), "\n\nPoint:", " gaze\n\n", (), "points", 1, ("image", "place"))
        tasks.append(("gaze", gaze))
    return tasks


def _places(template: Json, answer: Literal["boxes", "points"]) -> Task:
    before, after = _ids(template["prefix"]), _ids(template["suffix"])
    return Task(before, "", " {question}", after, answer, MOST_PLACES, ("image", "question"))


def _ids(found: Any) -> Ids:
    if not isinstance(found, (list, tuple)) or not all(type(value) is int for value in found):
        raise UserError(
            f"config.json: a template is {short(str(found))}, expected a list of token ids"
        )
    return tuple(found)


def sources(vlm: Vlm) -> dict[str, Source]:
    """Checkpoint names of the canonical tensors; the tower's query, key and value are one there."""
    return {name: _source(name, vlm) for name in shapes(vlm)}


PARTS: Mapping[str, str] = {
    "token_embd.weight": "text.wte",
    "output_norm": "text.post_ln",
    "output": "text.lm_head",
    "v.patch_embd": "vision.patch_emb",
    "v.position_embd.weight": "vision.pos_emb",
    "v.post_ln": "vision.post_ln",
    "mm.0": "vision.proj_mlp.fc1",
    "mm.1": "vision.proj_mlp.fc2",
    "region.coord_features.weight": "region.coord_features",
    "region.size_features.weight": "region.size_features",
    "region.coord_encoder": "region.coord_encoder",
    "region.size_encoder": "region.size_encoder",
    "region.coord_decoder.0": "region.coord_decoder.fc1",
    "region.coord_decoder.1": "region.coord_decoder.fc2",
    "region.size_decoder.0": "region.size_decoder.fc1",
    "region.size_decoder.1": "region.size_decoder.fc2",
}
TEXT_BLOCK: Mapping[str, str] = {
    "attn_norm": "ln",
    "attn_qkv": "attn.qkv",
    "attn_output": "attn.proj",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
VISION_BLOCK: Mapping[str, str] = {
    "ln1": "ln1",
    "ln2": "ln2",
    "attn_out": "attn.proj",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
QKV = ("attn_q", "attn_k", "attn_v")


def _source(canonical: str, vlm: Vlm) -> Source:
    tower = vlm.sight.vision
    if canonical == "v.patch_embd.weight":
        columns = tower.channels * tower.patch_size**2
        return Source(("model.vision.patch_emb.weight",), stored=(tower.hidden, columns))
    if canonical == "v.position_embd.weight":
        return Source(("model.vision.pos_emb",), stored=(1, tower.patches, tower.hidden))
    if canonical in PARTS:
        transposed = canonical.startswith("region.")
        return Source((f"model.{PARTS[canonical]}",), "transpose" if transposed else "")
    stem, _, kind = canonical.rpartition(".")
    if stem in PARTS:
        return Source((f"model.{PARTS[stem]}.{kind}",))
    tower_block, _, rest = stem.rpartition("blk.")
    index, _, part = rest.partition(".")
    block = f"model.{'vision' if tower_block else 'text'}.blocks.{index}"
    if tower_block and part in QKV:
        return Source((f"{block}.attn.qkv.{kind}",), part=(QKV.index(part), len(QKV)))
    names = VISION_BLOCK if tower_block else TEXT_BLOCK
    return Source((f"{block}.{names[part]}.{kind}",))


MOONDREAM = Family(
    name="moondream",
    model_types=("moondream1",),
    read=read,
    sources=sources,
    image=image,
    prompt=prompt,
    special_tokens=("<|endoftext|>",),
    gguf=Gguf(
        arch="phi2",
        projector_type="janus_pro",
        tokenizer="gpt2",
        tokenizer_pre="phi-2",
        stated=("rope.dimension_count",),
        adds_begin=True,
        arranged={"mm.0.weight": "folded"},
        floats={"v.patch_embd.*": 32, "v.position_embd.*": 32},
    ),
    # What mmproj cannot have: crops, region heads, and a prefix that sees all of itself.
    layout="onnx-vision",
    # The author's own files lack what the wrapper for transformers adds.
    spellings=tuple((f"{part}.", f"model.{part}.") for part in ("text", "vision", "region")),
    vocabulary=Vocabulary(
        first=(),
        named={
            name: "<|endoftext|>" for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        },
        words=(" the", " image", " is", "\n\n", "Question", "Answer", " gaze", "Point", ":"),
        own=50256,
    ),
    preprocessor_file=False,
)
