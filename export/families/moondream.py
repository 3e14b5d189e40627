"""Describes the family Moondream (2 and 0.5B), as in the author's own code.

It consists of a ViT over crops, a decoder with parallel blocks, and heads for points and boxes.
Class defaults and token ids are those of vikhyat/moondream, moondream/torch/config.py, at the
release of 2025-04-14 and, if config.json names that tokenizer, of 2025-06-21.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from export.errors import UserError
from export.families.preprocessor import HALF
from export.families.section import Json, Section
from export.families.spec import Family, Gguf, Source, Vocabulary
from export.files import short
from export.images import Crops
from export.modeling.crop_mlp import CropMlp
from export.modeling.decoder import Decoder
from export.modeling.region_heads import RegionHeads
from export.modeling.vision import TileVision
from export.modeling.vit import Vit
from export.modeling.vlm import Vlm, shapes
from export.prompts import PromptTask, Templates

EPS = 1e-5  # torch's default, which the code leaves as it is
MAX_REGIONS = 50
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Generation:
    """Token ids and prompt templates for one of the two tokenizers that checkpoints have.

    bos: id that begins and ends a text. templates: task -> ids before and after its question.
    before_question: text between those ids and the question. answer: ids that begin an answer and
    are not chosen after its first token.
    """

    bos: int
    templates: Json
    before_question: str = ""
    answer: Ids = ()


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
# Parts of the object `config` -> all keys that the author's code takes.
PARTS: Mapping[str, tuple[str, ...]] = {
    "text": (
        *("dim", "ff_dim", "n_layers", "vocab_size", "max_context", "n_heads", "n_kv_heads"),
        *("prefix_attn", "group_size"),
    ),
    "vision": (
        *("enc_dim", "enc_patch_size", "enc_n_layers", "enc_ff_dim", "enc_n_heads", "crop_size"),
        *("in_channels", "max_crops", "overlap_margin", "proj_inner_dim", "proj_out_dim"),
    ),
    "region": (
        *("dim", "coord_feat_dim", "coord_out_dim", "size_feat_dim", "size_out_dim", "inner_dim"),
        "group_size",
    ),
    "tokenizer": (
        *("bos_id", "eos_id", "templates", "answer_id"),
        # Of answers with a chain of thought, which are not supported.
        *("thinking_id", "coord_id", "size_id", "start_ground_points_id", "end_ground_id"),
    ),
}


def read(config: Section) -> Vlm:
    """Reads a model's hyperparameters from config.json.

    Its object `config` overrides the defaults of the author's code; on the hub it is empty. Raises
    UserError for what is not supported.
    """
    parts = config.section("config", {})
    text, vision, region, tokenizer = (parts.section(name, {}) for name in PARTS)
    for name, known in PARTS.items():
        parts.section(name, {}).expect_keys(known)
    generation, decoder, tower = _generation(tokenizer), _decoder(text), _tower(vision)
    projector = CropMlp(
        margin=vision.integer("overlap_margin", 4),
        crops=vision.count("max_crops", 12),
        inner=vision.count("proj_inner_dim", 8192),
    )
    _expect(vision, "in_channels", vision.count("in_channels", 3), 3)
    _expect(vision, "proj_out_dim", vision.count("proj_out_dim", 2048), decoder.hidden)
    _expect(region, "dim", region.count("dim", 2048), decoder.hidden)
    _expect(text, "prefix_attn", decoder.prefix, 1 + tower.patches)
    for part in (text, region):
        _expect(part, "group_size", part.integer("group_size", None), None)
    return Vlm(
        family="moondream",
        # No token: the last row of the embedding, beyond all that the tokenizer has.
        vision=TileVision(tower, projector, decoder.vocab - 1),
        text=decoder,
        bos_token_id=tokenizer.integer("bos_id", generation.bos),
        stop_token_ids=(tokenizer.integer("eos_id", generation.bos),),
        region=_region(region),
    )


def _tower(vision: Section) -> Vit:
    return Vit(
        layers=vision.count("enc_n_layers", 27),
        hidden=vision.count("enc_dim", 1152),
        intermediate=vision.count("enc_ff_dim", 4304),
        heads=vision.count("enc_n_heads", 16),
        image_size=vision.count("crop_size", 378),
        patch_size=vision.count("enc_patch_size", 14),
        norm_eps=EPS,
        activation="gelu_tanh",
    )


def _decoder(text: Section) -> Decoder:
    hidden, heads = text.count("dim", 2048), text.count("n_heads", 32)
    return Decoder(
        layers=text.count("n_layers", 24),
        hidden=hidden,
        intermediate=text.count("ff_dim", 8192),
        heads=heads,
        # Left out by the 0.5B's file, which is older than the key.
        kv_heads=text.count("n_kv_heads", heads),
        head_dim=hidden // heads,
        vocab=text.count("vocab_size", 51200),
        context=text.count("max_context", 2048),
        rope_theta=1e4,
        norm_eps=EPS,
        activation="gelu_tanh",
        tied=False,
        prefix=text.integer("prefix_attn", 730),
        rope_dims=hidden // heads // 2,
        norm="layer",
        parallel=True,
        fused_qkv=True,
        biases=True,
        gated=False,
    )


def _region(region: Section) -> RegionHeads:
    # The file counts cosines and sines, and both sizes' bins together.
    return RegionHeads(
        inner=region.count("inner_dim", 8192),
        coord_features=region.count("coord_feat_dim", 256) // 2,
        coord_bins=region.count("coord_out_dim", 1024),
        size_features=region.count("size_feat_dim", 512) // 2,
        size_bins=region.count("size_out_dim", 2048) // 2,
    )


def _expect(section: Section, key: str, found: object, expected: object) -> None:
    if found != expected:
        raise UserError(
            f"{section.file}: {section.dotted(key)} is {short(str(found))}, but only {expected} is "
            f"supported for this geometry"
        )


def _generation(tokenizer: Section) -> Generation:
    return STARMIE if tokenizer.integer("bos_id", LEGACY.bos) == STARMIE.bos else LEGACY


def image(vlm: Vlm, preprocessor: Section) -> Crops:
    """Makes the image recipe from the hyperparameters alone.

    `preprocessor` is not used: Moondream has these settings in its code, not in a file.
    """
    vision = vlm.require_vision()
    assert vision.crops is not None
    return Crops(
        tile=vision.tower.image_size,
        margin=vision.crops.margin * vision.tower.patch_size,
        max_crops=vision.crops.crops,
        mean=HALF,
        std=HALF,
        rescale=1 / 255,
    )


def prompt(vlm: Vlm, config: Section) -> Templates:
    """Makes the prompt templates of all tasks, from the author's code.

    A task that config.json has takes its template from there.
    """
    tokenizer = config.section("config", {}).section("tokenizer", {})
    generation, vision = _generation(tokenizer), vlm.require_vision()
    assert vlm.bos_token_id is not None, "read gives every model one"
    saved = tokenizer.section("templates", {})
    templates = {
        key: saved.section(key, None) if key in saved else Section(ids, saved.file, key)
        for key, ids in generation.templates.items()
    }
    made = Templates(
        start=(vlm.bos_token_id,),
        placeholder=vision.image_token_id,
        image_positions=vision.tower.patches,
        tasks=dict(_tasks(templates, generation)),
        never_later=tuple(tokenizer.integer("answer_id", id_) for id_ in generation.answer),
    )
    if problems := [*made.problems(vlm.text.vocab)]:
        raise UserError(
            f"{saved.file}: {'; '.join(problems)}; take config.json from the checkpoint"
        )
    return made


def _tasks(
    templates: Mapping[str, Section | None], generation: Generation
) -> list[tuple[str, PromptTask]]:
    tasks = []
    if query := templates["query"]:
        # From 2025-06-21 on the author's query() puts the suffix twice, and only there.
        times = 2 if generation is STARMIE else 1
        closing = generation.before_question + "{question}"
        before, after = query.integers("prefix"), query.integers("suffix") * times
        tasks.append(("query", PromptTask(before, "", closing, after, needs=("question",))))
    if captions := templates["caption"]:
        for length in captions:
            name = "caption" if length == "normal" else f"caption-{length}"
            ids = captions.integers(length)
            tasks.append((name, PromptTask(ids, "", "", (), needs=("image",))))
    if detect := templates["detect"]:
        tasks.append(("detect", _regions(detect, "boxes")))
    if point := templates["point"]:
        tasks.append(("point", _regions(point, "points")))
        gaze = PromptTask((), "\n\nPoint:", " gaze\n\n", (), "points", 1, ("image", "place"))
        tasks.append(("gaze", gaze))
    return tasks


def _regions(template: Section, answer: Literal["boxes", "points"]) -> PromptTask:
    before, after = template.integers("prefix"), template.integers("suffix")
    return PromptTask(before, "", " {question}", after, answer, MAX_REGIONS, ("image", "question"))


TOP: Mapping[str, str] = {
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


def sources(vlm: Vlm) -> dict[str, Source]:
    """Maps each tensor name of the model (GGUF's names) to its tensor in the checkpoint.

    The vision encoder's query, key and value are parts of one tensor there.
    """
    return {name: _source(name, vlm) for name in shapes(vlm)}


def _source(canonical: str, vlm: Vlm) -> Source:
    tower = vlm.require_vision().tower
    if canonical == "v.patch_embd.weight":
        columns = tower.channels * tower.patch_size**2
        return Source("model.vision.patch_emb.weight", stored=(tower.hidden, columns))
    if canonical == "v.position_embd.weight":
        return Source("model.vision.pos_emb", stored=(1, tower.patches, tower.hidden))
    if canonical in TOP:
        transposed = canonical.startswith("region.")
        return Source(f"model.{TOP[canonical]}", "transpose" if transposed else None)
    stem, _, kind = canonical.rpartition(".")
    if stem in TOP:
        return Source(f"model.{TOP[stem]}.{kind}")
    tower_block, _, rest = stem.rpartition("blk.")
    index, _, part = rest.partition(".")
    block = f"model.{'vision' if tower_block else 'text'}.blocks.{index}"
    if tower_block and part in QKV:
        return Source(f"{block}.attn.qkv.{kind}", part=(QKV.index(part), len(QKV)))
    names = VISION_BLOCK if tower_block else TEXT_BLOCK
    return Source(f"{block}.{names[part]}.{kind}")


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
        add_bos=True,
        arranged={"mm.0.weight": "folded"},
        floats={"v.patch_embd.*": 32, "v.position_embd.*": 32},
    ),
    # mmproj has neither crops nor region heads, nor a prefix whose positions all see each other.
    layout="onnx-vision",
    # The author's own files lack what the wrapper for transformers adds.
    prefixes=tuple((f"{part}.", f"model.{part}.") for part in ("text", "vision", "region")),
    vocabulary=Vocabulary(
        first=(),
        named={
            name: "<|endoftext|>" for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        },
        words=(" the", " image", " is", "\n\n", "Question", "Answer", " gaze", "Point", ":"),
        text_vocab=50256,
    ),
    preprocessor_file=False,
)
