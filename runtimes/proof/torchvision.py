"""Hides a torchvision that cannot be imported.

transformers takes torchvision for usable if it is installed, and imports it with every model. A
build of torchvision for another torch, as the one of PyPI beside a CPU build, breaks each of these
imports.
"""

import importlib
import importlib.util
import sys
import warnings

BROKEN = (ImportError, RuntimeError, AttributeError, OSError)
"""What an import raises whose compiled library or whose torch is another one than expected."""


def hide_broken() -> str | None:
    """Makes torchvision absent for this process if its import fails; returns the error's text.

    It has an effect on transformers only before that is first imported. None: torchvision is not
    installed, or can be imported.
    """
    if "transformers" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of its own optional libraries
            importlib.import_module("torchvision")
    except BROKEN as error:
        sys.modules["torchvision"] = None  # type: ignore[assignment] # find_spec then returns None
        return str(error)
    return None
