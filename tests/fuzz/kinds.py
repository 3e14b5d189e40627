"""What the campaign breaks and what it then runs: the table KINDS, a row for each kind of input.

An input is named by its kind and a number; these and the campaign's seed decide everything about
it. To add a kind: what is sound (tests/fuzz/sound.py), a fault (tests/fuzz/mutations.py,
tests/fuzz/media.py), and a row here.
"""

import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.cli import COMMANDS
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from tests.fuzz import media, mutations, sound
from tests.fuzz.mutations import CHECKPOINT, Fault

OK, WORSE, REFUSED = 0, 1, 2
PROCESS_EVERY = 25
"""One input of so many is a real process; the others call the command's own main."""


@dataclass(frozen=True)
class Command:
    """A command line: `export …` or `bench …`, with names of sound inputs and draws in braces.

    `codes`: exit codes that may be right, whatever the input.
    """

    words: str
    codes: frozenset[int] = frozenset((OK, REFUSED))


@dataclass(frozen=True)
class Kind:
    """One kind of input: `broken`, a name in SOUND, gets the `fault`; a command is drawn.

    `weight`: how many inputs it gets beside the others'.
    """

    broken: str
    fault: Fault
    commands: tuple[Command, ...]
    weight: int = 4
    words_too: bool = False
    """Whether words of the command line are changed, too."""


@dataclass(frozen=True)
class Input:
    """A kind and a number, as in `config/17`."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.number}"

    @property
    def as_process(self) -> bool:
        return random.Random(f"{self} as a process").randrange(PROCESS_EVERY) == 0


@dataclass(frozen=True)
class Made:
    """An input on the disk: words for what is broken, the command line, and its right codes."""

    said: str
    words: tuple[str, ...]
    codes: frozenset[int]


def make_input(one: Input, seed: int, sound_root: Path, folder: Path) -> Made:
    """Makes the input in `folder`/in; the command will write to `folder`/out, which exists."""
    kind, chosen = KINDS[one.kind], random.Random(f"{seed} {one}")
    command = chosen.choice(kind.commands)
    named = {name for name in sound.SOUND if f"{{{name}}}" in command.words} | {kind.broken}
    variants = {
        name: chosen.choice(sorted((sound_root / name).iterdir())) for name in sorted(named)
    }
    places = {name: folder / "in" / name for name in variants}
    for name, variant in variants.items():
        shutil.copytree(variant, places[name])
    (folder / "out").mkdir()
    said = f"{variants[kind.broken].name}: {kind.fault(chosen, places[kind.broken])}"
    values = {name: str(place) for name, place in places.items()} | {
        "out": str(folder / "out"),
        "target": chosen.choice(list(TARGETS)),
        "recipe": chosen.choice(list(RECIPES)),
        "task": variants[sound.ROWS_FOLDER].name.split()[0] if sound.ROWS_FOLDER in named else "",
        "max": str(chosen.choice((1, 3, 9))),
    }
    words = [word.format_map(values) for word in command.words.split()]
    if kind.words_too:
        said = f"{said}, {media.change_words(chosen, words)}"
    return Made(said, tuple(words), command.codes)


ANY = frozenset((OK, WORSE, REFUSED))
NO_PROOF = "--no-verify --out {out}/artifact"
EXPORT = Command(f"export {{model}} --target {{target}} --recipe {{recipe}} {NO_PROOF}")
ONNX = Command(f"export {{model}} --target onnx --recipe int4 {NO_PROOF}")
PROVE = Command("export {model} --target onnx --recipe int8 --out {out}/artifact", ANY)
FOOTPRINT = Command("bench footprint {model} --json")
CALIBRATE = Command(
    f"export {{model}} --target onnx --recipe int4 --calibrate {{questions}}/questions.jsonl "
    f"{NO_PROOF}"
)
OPEN = "--threads 1 --max-tokens 2 --json"
ASK = Command(f"bench ask {{artifact}} {{images}}/image what? {OPEN}")
ASK_FAKE = Command(f"bench ask {{fake}} {{images}}/image what? --runtime fake {OPEN}")
ASK_MODEL = Command(f"bench ask {{model}} {{images}}/image what? --runtime reference {OPEN}")
OVERHEAD = Command(
    "bench overhead {artifact} --pairs 1 --openings 1 --threads 1 --prefill-tokens 4 "
    "--decode-tokens 2"
)
MEASURE = Command(
    "bench run {artifact} --task latency --rounds 1 --repeats 1 --threads 1 --no-ceilings "
    "--decode-tokens 2 -o {out}/run.jsonl",
    ANY,
)
COST = Command(
    "bench export-cost -o {out}/exports.jsonl {model} --target onnx --recipe int4 --no-verify", ANY
)
COST_AGAIN = Command(COST.words.replace("{out}", "{costs}"), ANY)
PEER = Command(
    "bench peers {model} --rounds 1 --repeats 1 --threads 1 --prefill-tokens 4 --decode-tokens 2 "
    "-o {out}/run.jsonl",
    ANY,
)
ROWS = Command(
    "bench run {fake} --runtime fake --task {task} --data {rows} --limit {max} --threads 1 "
    "-o {out}/run.jsonl",
    ANY,
)
REPORT = Command("bench report {records}/run.jsonl")
WRITE_REPORT = Command("bench report {records}/run.jsonl -o {out}/REPORT.md --profile phone-4gb")
COMPARE = Command("bench compare {records}/base.jsonl {records}/run.jsonl", ANY)
COMPARE_JSON = Command("bench compare {records}/run.jsonl {records}/base.jsonl --json", ANY)
PEAKS = Command("bench peaks {records}/run.jsonl", ANY)
CHECK = Command(
    "bench check {records}/run.jsonl --baseline {baseline}/footprint.json "
    "--peaks {baseline}/peaks.json",
    ANY,
)
RESUME = Command(
    "bench run {fake} --runtime fake --task latency --rounds 1 --repeats 1 --threads 1 "
    "--no-ceilings --resume -o {records}/run.jsonl",
    ANY,
)
# A sound command line of every command, whose words are then changed.
LINES = (
    ASK_FAKE,
    COMPARE,
    EXPORT,
    FOOTPRINT,
    PEAKS,
    REPORT,
    ROWS,
    Command("bench footprint tiny-smolvlm --target onnx --recipe int4 --context 100"),
    Command("bench list --json"),
    # Of another layout, so it is refused; it would wait for a phone.
    Command("bench phone {fake} -o {out}/run.jsonl", ANY),
    Command("bench overhead {fake} --pairs 1"),
    PEER,
    Command("bench gpu tiny-smolvlm --target gguf --folder {out} -o {out}/gpu.jsonl", ANY),
    Command("bench export-cost -o {out}/costs.jsonl {model} --target onnx --recipe int4", ANY),
    Command("bench check --baseline {baseline}/footprint.json --peaks {baseline}/peaks.json", ANY),
)
ON_CHECKPOINTS = (EXPORT, EXPORT, ONNX, ONNX, FOOTPRINT)
KINDS: Mapping[str, Kind] = {
    **{name: Kind(sound.MODEL, fault, ON_CHECKPOINTS) for name, fault in CHECKPOINT.items()},
    "values": Kind(sound.MODEL, mutations.values_fault, (EXPORT,)),
    "proof": Kind(sound.MODEL, mutations.json_fault("config.json", 1), (PROVE,), 1),
    "template": Kind(sound.MODEL, mutations.template_fault, (PROVE, ONNX), 3),
    "checkpoint asked": Kind(sound.MODEL, mutations.byte_fault, (ASK_MODEL, COST, PEER), 1),
    "artifact.json": Kind(sound.ARTIFACT, mutations.json_fault("artifact.json"), (ASK,), 6),
    "artifact files": Kind(sound.ARTIFACT, mutations.file_fault, (ASK, OVERHEAD), 2),
    "artifact bytes": Kind(sound.ARTIFACT, mutations.parts_fault, (ASK, OVERHEAD), 2),
    "artifact forged": Kind(
        sound.ARTIFACT, mutations.honest(mutations.parts_fault), (ASK, ASK, OVERHEAD), 4
    ),
    "artifact tokenizer": Kind(
        sound.ARTIFACT, mutations.honest(mutations.json_fault("tokenizer.json", 1)), (ASK,)
    ),
    "artifact measured": Kind(sound.ARTIFACT, mutations.byte_fault, (MEASURE,), 1),
    "image": Kind(sound.IMAGES, media.image_fault, (ASK_FAKE,), 8),
    "records": Kind(
        sound.RECORDS,
        mutations.lines_fault("run.jsonl"),
        (REPORT, REPORT, COMPARE, COMPARE_JSON, PEAKS),
        8,
    ),
    "records written": Kind(sound.RECORDS, mutations.lines_fault("run.jsonl"), (WRITE_REPORT,), 1),
    "records resumed": Kind(sound.RECORDS, mutations.lines_fault("run.jsonl"), (RESUME,), 1),
    "rows": Kind(sound.ROWS_FOLDER, media.rows_fault, (ROWS,), 2),
    "questions": Kind(sound.QUESTIONS, mutations.lines_fault("questions.jsonl"), (CALIBRATE,), 2),
    "baseline": Kind(sound.BASELINE, mutations.json_fault("peaks.json"), (CHECK,), 1),
    "footprints": Kind(sound.BASELINE, mutations.json_fault("footprint.json"), (CHECK,), 1),
    "costs": Kind(sound.COSTS, mutations.lines_fault("exports.jsonl"), (COST_AGAIN,), 1),
    "words": Kind(sound.FAKE, media.no_fault, LINES, words_too=True),
}
"""name -> kind of input"""


def inputs(count: int, only: str = "") -> list[Input]:
    """`count` inputs in the shares of their weights, kinds mixed; `only`: a kind, or one input."""
    name, _, number = only.partition("/")
    if number:
        return [Input(name, int(number))]
    kinds = {name: KINDS[name]} if name else KINDS
    turns = [name for name, kind in kinds.items() for _ in range(kind.weight)]
    random.Random(0).shuffle(turns)
    numbers = dict.fromkeys(kinds, 0)
    made = []
    for n in range(count):
        kind_name = turns[n % len(turns)]
        made.append(Input(kind_name, numbers[kind_name]))
        numbers[kind_name] += 1
    return made


UNTRIED = frozenset(COMMANDS) - {
    word.split()[1]
    for kind in KINDS.values()
    for word in (command.words for command in kind.commands)
    if word.startswith("bench ")
}
"""Commands of `bench` that no row runs; a test wants none."""
