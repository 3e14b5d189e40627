"""Fake artifacts and synthetic records for the tests of bench, without any model."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from bench.jobs.plan import Job
from bench.machine.environment import Environment, Load
from bench.machine.memory import PHASES, PhaseMemory
from bench.measure import Timing
from bench.options import Options
from bench.record import Agreement, Case, Item, Outcome, Record, Subject
from export.images import Tiles
from export.manifest import SCHEMA, Details, Fallback, FileFacts, Manifest, Quantization, Share
from export.modeling.decoder import Decoder
from export.modeling.pixel_shuffle import PixelShuffle
from export.modeling.vision import TileVision
from export.modeling.vit import Vit
from export.modeling.vlm import Vlm
from export.prompts import Prompt
from export.proof import (
    Checks,
    Features,
    Fidelity,
    GreedyCheck,
    Proof,
    Skipped,
    TensorCheck,
)
from export.quantize.recipe import RecipeUsed
from runtimes.fake import SCRIPT

WORDS = ("<end>", "yes", "no", "red", "blue", "circle")
IMAGE_TOKEN_ID = 15
VLM = Vlm(
    family="smolvlm",
    vision=TileVision(Vit(1, 8, 8, 1, 8, 4, 1e-6, "gelu_tanh"), PixelShuffle(1), IMAGE_TOKEN_ID),
    text=Decoder(1, 8, 8, 1, 1, 8, 16, 4096, 1e4, 1e-6, "silu", True),
    bos_token_id=0,
    stop_token_ids=(0,),
)
TILES = Tiles(8, 8, False, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 1 / 255)
PROMPT = Prompt(
    text_only="{question}",
    with_images="{images}{question}",
    single="{tokens}",
    image_token="<image>",
    tokens_per_tile=4,
)

MakeArtifact = Callable[..., Path]
MakeJob = Callable[..., Job]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tokenizer_json() -> str:
    vocab = {word: n for n, word in enumerate(WORDS)}
    vocab |= {f"word{n}": n for n in range(len(WORDS), IMAGE_TOKEN_ID)} | {"<image>": 15}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="yes"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in ("<end>", "<image>")])
    return str(tokenizer.to_str())


ENVIRONMENT = Environment(
    cpu="Imaginary CPU 9",
    cpu_flags=("avx2", "fma"),
    cores=2,
    usable_cpus=2,
    governor=None,
    max_hz=None,
    memory_bytes=8_000_000_000,
    system="Linux 6.1",
    architecture="x86_64",
    python="3.11.7",
    packages={"numpy": "2.4.6", "onnxruntime": "1.32.0"},
    revision="0123456789abcdef0123456789abcdef01234567",
)


def files(content: str) -> dict[str, Any]:
    """An origin of one file, whose digest is made of the letters of `content`."""
    return {"files": {"model.safetensors": {"bytes": 1, "sha256": content.encode().hex()}}}


def subject(recipe: str | None, megabytes: float, **changes: Any) -> Subject:
    """An ONNX artifact of that recipe, or a checkpoint for None."""
    made = Subject(
        model="tiny-smolvlm",
        synthetic=False,
        target=recipe and "onnx",
        recipe=recipe,
        layout=recipe and "native",
        sha256=recipe and sha256(recipe.encode()),
        disk_bytes=round(megabytes * 1e6),
        origin=files("tiny-smolvlm"),
        quantization=None,
        proof=None,
    )
    return replace(made, **changes)


def quantization(bits: float) -> Quantization:
    tensors = ("blk.0.attn_q.weight", "blk.1.attn_q.weight")
    return Quantization(
        bits_per_weight=bits,
        components={
            "vision": Share(parameters=400000, quantized_parameters=0, weight_bytes=1600000),
            "decoder": Share(parameters=1250000, quantized_parameters=1200000, weight_bytes=780000),
        },
        types={"F32": 40000, "F16": 410000, "Q4_0": 1200000},
        fallbacks=tuple(
            Fallback(tensor, "4 bit", "float16", "rows not divisible by 32") for tensor in tensors
        ),
    )


PROOF = Proof(
    passed=True,
    unjudged=None,
    failures=(),
    checks=Checks(
        tensors=TensorCheck(84),
        preprocessing=Skipped("transformers is not installed"),
        features=Features(n=96, cosine=0.99998, min_cosine=0.9995, max_error=0.00031),
        logits=Fidelity(64, 0.0004, 0.005, 0.009, 0.01, 0.984375),
        greedy=GreedyCheck(12, 12),
    ),
)


def timing(scale: float, tokens: int = 4) -> Timing:
    """Steps of 1, 8, 5 ms and tokens every 2 ms, times `scale`."""
    return Timing(
        prepare_s=0.001 * scale,
        image_s=0.008 * scale,
        prefill_s=0.005 * scale,
        first_token_s=0.0141 * scale,
        token_s=(0.002 * scale,) * (tokens - 1),
        total_s=(0.0141 + 0.002 * (tokens - 1)) * scale,
        prompt_positions=40,
        image_positions=16,
        prefill_positions=40,
        image_reused=False,
        prefix_reused=False,
        tokens=tuple(range(tokens)),
        image_tiles=4,
    )


def phases(peak: int) -> tuple[PhaseMemory, ...]:
    peaks = (peak // 2, peak, peak - 10_000_000, peak - 5_000_000, None)
    return tuple(
        PhaseMemory(phase, bytes_, peak // 2, peak // 2, peak // 3, peak // 8)
        for phase, bytes_ in zip(PHASES, peaks, strict=True)
    )


def record(of: Subject, runtime: str, task: str, outcome: Outcome, number: int = 0) -> Record:
    case = Case(of, runtime, "cpu", 2, task, Options(decode_tokens=4), number)
    return Record(
        schema=1,
        case=case,
        status="ok",
        reason=None,
        started_at="2026-01-01T00:00:00+00:00",
        wall_s=2.0,
        before=Load(0.25, 10.0),
        after=Load(0.5, 10.25),
        environment=ENVIRONMENT,
        outcome=outcome,
    )


def latency(of: Subject, runtime: str, scale: float, peak: int) -> list[Record]:
    """Two rounds of three requests, 1 % apart."""
    rounds = []
    for number in range(2):
        steps = tuple(timing(scale * (1 + 0.01 * (3 * number + n))) for n in range(3))
        outcome = Outcome(0.02 * scale, (timing(scale * 3),), steps, phases(peak))
        rounds.append(record(of, runtime, "latency", outcome, number))
    return rounds


def accuracy(of: Subject, runtime: str, correct: int, asked: int = 40) -> Record:
    items = tuple(Item(f"{n}/0", "red", n < correct) for n in range(asked))
    return record(of, runtime, "easy-vqa", Outcome(0.02, items=items))


def fidelity(of: Subject, runtime: str, kld: float) -> Record:
    klds = tuple(kld * (0.5 + n / 19) for n in range(20))
    found = Fidelity(20, kld, kld * 1.5, kld * 1.6, kld * 1.7, 0.95)
    agreement = Agreement("tiny-smolvlm", 10, 9, found, klds)
    return record(of, runtime, "fidelity", Outcome(0.02, agreement=agreement))


def run_records() -> list[Record]:
    """A run: a checkpoint, two artifacts, one of random weights, a failed and a skipped job."""
    base = subject(None, 3.3)
    int8 = subject("int8", 2.4, quantization=quantization(8.5), proof=PROOF)
    int4 = subject("int4", 1.5, quantization=quantization(4.5))
    random = subject("int4", 312.0, model="smolvlm-500m", synthetic=True, sha256="5" * 64)
    failed = record(int4, "onnxruntime", "easy-vqa", Outcome())
    skipped = record(random, "onnxruntime", "easy-vqa", Outcome())
    return [
        *latency(base, "reference", 5.0, 400_000_000),
        *latency(int8, "onnxruntime", 1.0, 180_000_000),
        *latency(int4, "onnxruntime", 0.8, 160_000_000),
        *latency(random, "onnxruntime", 50.0, 900_000_000),
        accuracy(base, "reference", 34),
        accuracy(int8, "onnxruntime", 34),
        accuracy(int4, "onnxruntime", 32),
        fidelity(int8, "onnxruntime", 1e-5),
        fidelity(int4, "onnxruntime", 1e-3),
        replace(failed, status="failed", reason="killed by SIGKILL; no output"),
        replace(skipped, status="skipped", reason="random weights | no accuracy", wall_s=None),
    ]


def save_artifact(folder: Path, script: Mapping[str, Any] | None = None, **changes: Any) -> Path:
    """A new folder that is an artifact in every respect but its answers (see runtimes.fake)."""
    folder.mkdir(parents=True)
    contents = {
        "tokenizer.json": tokenizer_json().encode(),
        SCRIPT: json.dumps(dict(script or {})).encode(),
    }
    for path, data in contents.items():
        (folder / path).write_bytes(data)
    manifest = Manifest(
        schema=SCHEMA,
        model="fake-model",
        origin={"seed": 0},
        synthetic=False,
        vlm=VLM,
        image=TILES,
        prompt=PROMPT,
        target="onnx",
        recipe="int4",
        recipe_used=RecipeUsed(changes.get("recipe", "int4")),
        layout="native",
        files={path: FileFacts(len(data), sha256(data)) for path, data in contents.items()},
        components={},
        quantization=Quantization(4.5, {}, {}, ()),
        details=Details(),
        tools={},
        proof=None,
    )
    (folder / "artifact.json").write_text(json.dumps(asdict(replace(manifest, **changes))))
    return folder
