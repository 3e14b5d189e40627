"""Pillow's warnings never reach the console; what an image loses is said in a note."""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.console import on_console
from export.errors import UserError
from runtimes.prepare.image import load_image, note_of, rgb


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width: int, height: int, more: bytes = b"") -> bytes:
    """A black PNG with further chunks; without pixels if it is large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = bytes(height * (3 * width + 1)) if height < 100 else b""
    content = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


def saved(suffix: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, suffix, **options)
    return file.getvalue()


def malformed_mpo() -> bytes:
    """A JPEG whose list of further images names none."""
    index = b"MPF\0II*\0\x08\0\0\0\x01\0\x00\xb0\x07\0\x04\0\0\x000100\0\0\0\0"
    jpeg = saved("jpeg")
    return jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(index) + 2) + index + jpeg[2:]


def changed_tag(tag: int, at: int, value: bytes) -> bytes:
    tiff = bytearray(saved("tiff", tiffinfo={270: "x" * 100}))
    place = next(
        place
        for place in range(len(tiff))
        if tiff[place : place + 2] == struct.pack("<H", tag) and tiff[place + 3] == 0
    )
    tiff[place + at : place + at + len(value)] = value
    return bytes(tiff)


WARNED: Mapping[str, tuple[bytes, str | None]] = {  # content, error (None: it is read)
    "100 million pixels": (png(10_000, 10_000), "damaged or unsupported image"),
    "an animation without frames": (png(4, 4, chunk(b"acTL", bytes(8))), None),
    "a malformed MPO": (malformed_mpo(), None),
    "a palette with alpha": (saved("png", "P", transparency=bytes([1, 2, 3])), None),
    "a TIFF's tag beyond its end": (changed_tag(270, 8, b"\xff\xff\xff\x0f"), "not an image"),
    "a TIFF of 200 channels": (changed_tag(277, 8, b"\xc8"), "not an image"),  # it logs
}


@pytest.mark.parametrize("name", WARNED)
def test_what_pillow_warns_of_is_read_or_refused_in_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content, said = WARNED[name]
    path = tmp_path / "given"
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        if said is None:
            assert load_image(path).mode == "RGB"
        else:
            with pytest.raises(UserError, match=said):
                load_image(path)
        assert warnings.filters == before
    assert warned == []
    assert capfd.readouterr() == ("", "")


def test_other_warnings_while_an_image_is_read_are_not_dropped() -> None:
    class Warns(Image.Image):
        def getbands(self) -> tuple[str, ...]:
            warnings.warn("from elsewhere", UserWarning, stacklevel=1)
            return super().getbands()

    image = Warns()
    image._mode, image._size = "RGB", (1, 1)
    with pytest.warns(UserWarning, match="from elsewhere"):
        rgb(image)


def test_threads_that_read_images_leave_the_filters_of_warnings(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(4, 4, chunk(b"acTL", bytes(8))))
    before = list(warnings.filters)

    def read() -> None:
        for _ in range(50):
            load_image(tmp_path / "image.png")

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_a_command_prints_nothing_that_pillow_logs() -> None:
    import logging

    assert on_console(lambda: 0) == 0
    assert on_console(lambda: 0) == 0
    assert len(logging.getLogger("PIL").handlers) == 1


def grey(kind: type, *values: float) -> Callable[[Path], Path]:
    def file(folder: Path) -> Path:
        path = folder / ("image.png" if kind is np.uint16 else "image.tiff")
        Image.fromarray(np.array([values], kind)).save(path)
        return path

    return file


def big_endian(folder: Path) -> Path:
    Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 7, 4095)).save(folder / "image.tiff")
    return folder / "image.tiff"


GREY: Mapping[str, tuple[Callable[[Path], Path], str | None]] = {
    "16 bits": (grey(np.uint16, 0, 300, 65535), "grey values from 0 to 65535 are read as 0 "),
    "16 bits, big-endian": (big_endian, "grey values from 7 to 4095 are"),
    "32 bits": (grey(np.int32, -5, 9), "grey values from -5 to 9 are"),
    "fractions": (grey(np.float32, 0, 0.25), "grey values from 0 to 0.25 are"),
    "16 bits with levels of 8": (grey(np.uint16, 0, 255), None),
    "a mask": (grey(np.uint16, 0, 1), None),
    "black": (grey(np.float32, 0, 0), None),
    "8 bits": (grey(np.uint8, 0, 255), None),
}


@pytest.mark.parametrize("name", GREY)
def test_grey_values_that_are_cut_are_noted(name: str, tmp_path: Path) -> None:
    file, said = GREY[name]
    path = file(tmp_path)
    note = note_of(load_image(path))
    assert note is None if said is None else (note or "").startswith(f"{path}: {said}")
