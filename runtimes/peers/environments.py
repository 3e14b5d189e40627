"""The table of the environments that other projects' programs run in; `make peers` makes them.

Each project wants other versions of the packages that we use, too. A lock in the folder `locks`
names all of them; its project's version is the only one that was tried.
"""

import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from export.errors import UserError
from runtimes.environments import Environment, python_of, run

LOCKS = Path(__file__).with_name("locks")
MAKE = "make peers"
LLAMA = "llama_cpp_python==0.3.36"
"""Its source archive carries llama.cpp's; constraints.txt has the same version."""
PROGRAMS = ("llama-bench", "llama-mtmd-cli", "llama-server")
# As llama-cpp-python builds the library of our runtime. Static: so the programs can be moved.
CMAKE = (
    *("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON"),
    *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF"),
    *("-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_UI=OFF"),
    *("-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF"),
)


def build_llama_cpp(folder: Path) -> None:
    """Builds llama.cpp's own programs into the folder `bin` of an environment with CMake and ninja.

    Their source is in the archive that pip fetches. Raises UserError without a C++ compiler.
    """
    own = ENVIRONMENTS["llama.cpp"]
    bin_folder = folder / "bin"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source, built = Path(scratch) / "source", Path(scratch) / "built"
        fetch = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        fetch += ["--no-deps", "--no-binary", "llama_cpp_python", "--dest", scratch, LLAMA]
        run(fetch, own, f"pip could not fetch the archive of {LLAMA}")
        (archive,) = Path(scratch).glob("*.tar.gz")
        _unpack(archive, source)
        cmake, ninja = str(bin_folder / "cmake"), f"-DCMAKE_MAKE_PROGRAM={bin_folder / 'ninja'}"
        configure = [cmake, "-S", str(source), "-B", str(built), ninja, *CMAKE]
        run(configure, own, "CMake cannot configure llama.cpp; it needs a C++ compiler")
        jobs = ["--parallel", str(os.cpu_count() or 1)]
        run([cmake, "--build", str(built), *jobs, "--target", *PROGRAMS], own, "it does not build")
        for name in PROGRAMS:
            shutil.copy2(built / "bin" / name, bin_folder / name)


def _unpack(archive: Path, place: Path) -> None:
    """Unpacks llama.cpp's part of llama-cpp-python's archive."""
    with tarfile.open(archive) as content:
        for member in content:
            _, vendored, name = member.name.partition("/vendor/llama.cpp/")
            if vendored:
                member.name = name
                content.extract(member, place, filter="data")


def _environment(name: str) -> Environment:
    lock = (LOCKS / f"{name.replace('.', '_')}.txt").read_text(encoding="utf-8")
    return Environment(name, lock, remedy=f"{MAKE} ARGS={name}")


def _llama_cpp() -> Environment:
    plain = _environment("llama.cpp")
    words = " ".join((LLAMA, *CMAKE))
    return Environment(
        plain.name, plain.lock, finish=build_llama_cpp, finished_with=words, remedy=plain.remedy
    )


ENVIRONMENTS: Mapping[str, Environment] = {
    "llama.cpp": _llama_cpp(),
    **{name: _environment(name) for name in ("genai", "openvino")},
}


def lack(name: str) -> str | None:
    """Returns that the environment `name` is not made, with the remedy; None if it is."""
    if python_of(ENVIRONMENTS[name]) is not None:
        return None
    return f"its environment {name} is not made ({ENVIRONMENTS[name].remedy})"


def python(name: str) -> Path:
    """Returns the interpreter of the environment `name`. Raises UserError if it is not made."""
    found = python_of(ENVIRONMENTS[name])
    if found is None:
        raise UserError(str(lack(name)))
    return found
