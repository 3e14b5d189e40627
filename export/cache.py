"""The project's folder in the user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Returns pocket-vlm in XDG_CACHE_HOME or ~/.cache; None: there is no home."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return folder / "pocket-vlm" if folder.is_absolute() else None
