"""The files that a page in a browser loads: the page itself, and installed npm packages."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from export.errors import UserError
from export.files import read_json

PAGE = Path(__file__).parent / "page"
CHECKOUT = Path(__file__).parents[2] / "tests" / "clients"
TRANSFORMERS, ONNXRUNTIME = "@huggingface/transformers", "onnxruntime-web"
VERSION = "4.3.1"
SCRIPTS = {
    TRANSFORMERS: "/npm/transformers.web.min.js",
    # What transformers.js asks for; its one file also has the classes of onnxruntime-common.
    "onnxruntime-web/webgpu": "/npm/ort.webgpu.bundle.min.mjs",
    "onnxruntime-common": "/npm/ort.webgpu.bundle.min.mjs",
}
INSTALL = f"npm install {TRANSFORMERS}@{VERSION}"
MARK = "<!-- import map -->"
IMPORT_MAP = json.dumps({"imports": SCRIPTS})
_DIGEST = base64.b64encode(hashlib.sha256(IMPORT_MAP.encode()).digest()).decode()
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src 'self' blob: 'wasm-unsafe-eval' 'sha256-{_DIGEST}'",
        "connect-src 'self' blob: data:",
        "img-src 'self' blob: data:",
        "style-src 'self'",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""A page's Content-Security-Policy: nothing from anywhere but this server."""


def packages(parents: Sequence[Path] = ()) -> Path | None:
    """Returns the folder node_modules that has transformers.js; None if it is not installed.

    It is looked for in `parents`: by default here, and where a checkout has what its tests run.
    """
    folders = (parent / "node_modules" for parent in parents or (Path.cwd(), CHECKOUT))
    return next((folder for folder in folders if (folder / TRANSFORMERS).is_dir()), None)


def problem(parents: Sequence[Path] = ()) -> str | None:
    """Returns why pages cannot be served, in words; None if they can. `parents`: see `packages`."""
    if packages(parents) is not None:
        return None
    return f"transformers.js is not installed ({INSTALL}, or make clients in a checkout)"


def page(name: str, *more: str) -> Mapping[str, Path | bytes]:
    """Returns the files, by their addresses, of a page: `name`, scripts and styles `more`.

    Raises UserError if transformers.js is not installed.
    """
    text = (PAGE / name).read_text()
    imports = f'<script type="importmap">{IMPORT_MAP}</script>'
    files: dict[str, Path | bytes] = {"/": text.replace(MARK, imports).encode()}
    files |= {f"/{other}": PAGE / other for other in ("vlm.mjs", *more)}
    return {**files, **_scripts()}


def versions() -> Mapping[str, str]:
    """Returns the versions of the npm packages that pages run, by their names."""
    folder = _expected()
    places = {TRANSFORMERS: folder / TRANSFORMERS, ONNXRUNTIME: _onnxruntime(folder)}
    return {
        name: str(read_json(place, "package.json")["version"]) for name, place in places.items()
    }


def _scripts() -> Mapping[str, Path]:
    folder = _expected()
    dist = _onnxruntime(folder) / "dist"
    # The bundle loads one of these, by what the browser can do.
    compiled = [*dist.glob("ort-wasm-simd-threaded*.mjs"), *dist.glob("*.wasm")]
    files = [
        folder / TRANSFORMERS / "dist" / "transformers.web.min.js",
        dist / "ort.webgpu.bundle.min.mjs",
        *compiled,
    ]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: not there; install the tested version ({INSTALL})")
    return {f"/npm/{file.name}": file for file in files}


def _onnxruntime(folder: Path) -> Path:
    """Returns the folder of the ONNX Runtime Web that transformers.js gets in Node's order."""
    own = folder / TRANSFORMERS / "node_modules" / ONNXRUNTIME
    return own if own.is_dir() else folder / ONNXRUNTIME


def _expected() -> Path:
    folder = packages()
    if folder is None:
        raise UserError(str(problem()))
    return folder
