"""Lets a package import its public names when they are first used (PEP 562)."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def importing(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a `__getattr__` for the package, which imports its public names on first use.

    `names` maps each public name to the module that defines it. A name is imported once and then
    is an attribute of the package. Other names raise AttributeError, as in any module.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(names[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
