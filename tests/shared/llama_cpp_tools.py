"""llama.cpp's own converter and quantizer: what our GGUF files are compared with.

The converter comes with the source archive of llama-cpp-python, fetched once from the package index
with pip and kept in pytest's cache; the quantizer is in the installed bindings of the same version.
"""

import ctypes
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from llama_cpp import llama_cpp as llama

from runtimes.llama_cpp.log import silence

PACKAGE = "llama-cpp-python"
WANTED = ("convert_hf_to_gguf.py", "conversion/", "gguf-py/gguf/")
RUN = Path(__file__).with_name("run_converter.py")


def converter_source(cache: pytest.Cache) -> Path:
    """The folder with convert_hf_to_gguf.py, of the installed version of the bindings."""
    version = importlib.metadata.version(PACKAGE)
    place = cache.mkdir("llama.cpp") / version
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            unpack(download(f"{PACKAGE}=={version}", Path(folder)), Path(folder) / "source")
            (Path(folder) / "source").rename(place)
    return place


def download(requirement: str, folder: Path) -> Path:
    """The source archive of a package, by whatever index pip is set up for."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--dest", str(folder), requirement]
    subprocess.run(command, check=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def unpack(archive: Path, place: Path) -> None:
    """The converter's files of the archive, without the path that leads to them."""
    with tarfile.open(archive) as content:
        for member in content:
            _, vendored, name = member.name.partition("/vendor/llama.cpp/")
            if vendored and member.isfile() and name.startswith(WANTED):
                member.name = name
                content.extract(member, place, filter="data")


class Converter:
    """convert_hf_to_gguf.py in a process of its own, which is kept: it imports for seconds."""

    def __init__(self, source: Path, log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(RUN), str(source)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def convert(self, checkpoint: Path, out: Path, pre: str, *flags: str) -> None:
        """Write `out` from a checkpoint whose pre-tokenizer llama.cpp calls `pre`."""
        assert self._process.stdin
        assert self._process.stdout
        arguments = [str(checkpoint), "--outfile", str(out), "--model-name", checkpoint.name]
        self._process.stdin.write(json.dumps([pre, [*arguments, *flags]]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer == "done\n", self._log.read_text()[-3000:]

    def close(self) -> None:
        """End the process, if it has not ended itself."""
        self._process.communicate()


def quantize(
    path: Path, out: Path, file_type: int, output_type: int | None = None, *, pure: bool = True
) -> None:
    """llama-quantize with one thread; `output_type` is the ggml type of output.weight.

    pure: all tensors get the one type of `file_type`, else the mixture that it names.
    """
    silence()
    settings = llama.llama_model_quantize_default_params()
    settings.nthread, settings.ftype, settings.pure = 1, file_type, pure
    if output_type is not None:
        settings.output_tensor_type = output_type
    failed = llama.llama_model_quantize(os.fsencode(path), os.fsencode(out), ctypes.byref(settings))
    assert not failed
