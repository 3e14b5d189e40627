"""Seeded faults in pictures, in rows of data sets and in the words of a command line."""

import io
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.fuzz.mutations import lines_fault

WORDS = (
    "", " ", "-", "--", "-1", "0", "1", "99999999999999999999", "1e9", "nan", "inf", "0.5", "x",
    "../x", "/", "/dev/null", "/proc/self/mem", "/nowhere/x", "a" * 5000, "\u2028", "\udcff",
    "été", "[red]x[/red]", "{out}", "%s", "--json", "--help", "--offline", "--task", "1/4", "4/1",
    "cuda", "cuda:99", "phone-4gb", "0,0", "0,0,1,1", "é" * 200,
)  # fmt: skip


def no_fault(_chosen: random.Random, _folder: Path) -> str:
    """The files stay sound."""
    return "sound"


def change_words(chosen: random.Random, words: list[str]) -> str:
    """One or two words of a command line, but not its first two, replaced, removed or doubled.

    What names the output folder stays.
    """
    said = []
    for _ in range(chosen.randint(1, 2)):
        places = [n for n, word in enumerate(words) if n > 1 and "/out" not in word]
        if not places:
            break
        place, kind = chosen.choice(places), chosen.choice(("value", "value", "gone", "new"))
        word = chosen.choice(WORDS)
        if kind == "gone":
            del words[place]
        else:
            words[place : place + (kind == "value")] = [word.replace("\0", "")]
        said.append(f"word {place} {kind} {word[:20]!r}")
    return "; ".join(said) or "sound"


def image_fault(chosen: random.Random, folder: Path) -> str:
    """A picture's bytes damaged, or a picture of an odd size, kind or claim."""
    path = folder / "image"
    data = bytearray(path.read_bytes())
    kind = chosen.choice(("bytes", "bytes", "cut", "claim", *PICTURES))
    if kind == "bytes":
        for _ in range(chosen.randint(1, 6)):
            data[chosen.randrange(min(len(data), 600))] = chosen.randrange(256)
    elif kind == "cut":
        del data[chosen.randrange(len(data)) :]
    elif kind == "claim":
        place = chosen.randrange(min(len(data), 40))
        data[place : place + 4] = chosen.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)))
    else:
        data = bytearray(PICTURES[kind](chosen))
    path.write_bytes(data)
    return kind


def _saved(image: Image.Image, format_: str, **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **more)
    return file.getvalue()


def _of_size(chosen: random.Random) -> bytes:
    size = chosen.choice(((1, 1), (1, 9000), (9000, 1), (3, 2000), (4000, 4000), (2, 1)))
    return _saved(Image.new("RGB", size), "PNG")


def _of_mode(chosen: random.Random) -> bytes:
    mode = chosen.choice(("1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "HSV"))
    picture = Image.new("RGB", (30, 20), "red").convert(mode if mode not in "I;16 I F" else "L")
    if mode in ("I;16", "I", "F"):
        values = np.arange(600).reshape(20, 30)
        picture = Image.fromarray(
            values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        )
    return _saved(picture if mode != "HSV" else picture.convert("RGB"), "TIFF")


def _animated(chosen: random.Random) -> bytes:
    frames = [Image.new("P", (9, 9), n) for n in range(3)]
    format_ = chosen.choice(("GIF", "PNG", "WEBP"))
    return _saved(frames[0].convert("RGB"), format_, save_all=True, append_images=frames[1:])


def _turned(chosen: random.Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = chosen.choice((0, 3, 6, 9, 65535))
    return _saved(Image.new("RGB", (20, 30)), "JPEG", exif=exif)


def _bomb(chosen: random.Random) -> bytes:
    """A small file that claims many pixels."""
    data = bytearray(_saved(Image.new("1", (8, 8)), "PNG"))
    edge = chosen.choice((13_000, 20_000, 60_000, 2**31 - 1))
    data[16:24] = edge.to_bytes(4, "big") * 2
    return bytes(data)


PICTURES: Mapping[str, Callable[[random.Random], bytes]] = {
    "size": _of_size,
    "mode": _of_mode,
    "animated": _animated,
    "turned": _turned,
    "bomb": _bomb,
    "text": lambda chosen: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "empty": lambda chosen: b"",
    "pickled": lambda chosen: b"\x80\x04\x95",
}


def rows_fault(chosen: random.Random, folder: Path) -> str:
    """A row of jsonl, a column of parquet, or a byte of either changed."""
    (path,) = [*folder.glob("*.jsonl"), *folder.glob("*.parquet")]
    if path.suffix == ".jsonl":
        return lines_fault(path.name)(chosen, folder)
    kind = chosen.choice(("bytes", "bytes", "end", *COLUMNS))
    if kind in COLUMNS:
        said = _changed_column(chosen, path, kind)
    else:
        data = bytearray(path.read_bytes())
        within = range(len(data)) if kind == "bytes" else range(len(data) - 60, len(data))
        said = f"byte {(place := chosen.choice(within))}"
        data[place] = chosen.randrange(256)
        path.write_bytes(data)
    return f"{path.name}: {said}"


COLUMNS: Mapping[str, Callable[[Any], Any]] = {
    "gone": lambda value: None,
    "number": lambda value: 7,
    "text": lambda value: "x",
    "list": lambda value: ["a", "b"],
    "bytes": lambda value: b"\xff\x00",
    "nested": lambda value: {"bytes": [[1, 2], [3]]},
    "long": lambda value: "word " * 100_000,
}


def _changed_column(chosen: random.Random, path: Path, kind: str) -> str:
    rows = pq.read_table(path).to_pylist()
    name = chosen.choice(sorted(rows[0]))
    changed = [row | {name: COLUMNS[kind](row[name])} for row in rows]
    pq.write_table(pa.Table.from_pylist(changed), path)
    return f"column {name} {kind}"
