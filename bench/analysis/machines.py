"""Finds the machines that records were measured on, and how two machines differ."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from bench.machine.environment import Environment
from bench.record import Record

# Traits that make two machines different. Software is not one: its versions are compared.
HARDWARE: Mapping[str, Callable[[Environment], object]] = {
    "CPU": lambda e: e.cpu,
    "architecture": lambda e: e.architecture,
    "instructions": lambda e: " ".join(e.cpu_flags),
    "cores": lambda e: e.cores,
    "usable CPUs": lambda e: e.usable_cpus,
    "highest clock": lambda e: e.max_hz,
    "governor": lambda e: e.governor,
    "GPUs": lambda e: "; ".join(e.gpus) or None,
    # Rounded: the kernel reserves a few MB more or less.
    "memory, GB": lambda e: None if e.memory_bytes is None else round(e.memory_bytes / 1e9),
}
SOFTWARE: Mapping[str, Callable[[Environment], object]] = {
    "system": lambda e: e.system,
    "Python": lambda e: e.python,
    "GPU driver": lambda e: e.gpu_driver,
    "PocketVLM revision": lambda e: e.revision,
}


def machines(records: Sequence[Record]) -> tuple[Environment, ...]:
    """Returns the different environments (hardware and software) of the records.

    They are in order of first appearance; of equal ones, the last is returned.
    """
    by_key = {machine_key(record.environment): record.environment for record in records}
    return tuple(by_key.values())


def machine_key(environment: Environment) -> str:
    """Returns a text that is equal for environments that differ only in measured speed limits."""
    return json.dumps(asdict(environment.unmeasured()), sort_keys=True)


def hardware_differences(first: Environment, second: Environment) -> list[str]:
    """Returns a text such as `CPU: A -> B` for each trait of the hardware that differs."""
    return _differences(HARDWARE, first, second)


def software_differences(first: Environment, second: Environment) -> list[str]:
    """Returns a text such as `numpy: 2.1 -> 2.2` for each software version that differs.

    It compares all packages, the operating system, Python, the GPU driver and PocketVLM's revision.
    """
    names = sorted({*first.packages, *second.packages})
    packages = {name: _package(name) for name in names}
    return _differences({**SOFTWARE, **packages}, first, second)


def _differences(
    traits: Mapping[str, Callable[[Environment], object]], first: Environment, second: Environment
) -> list[str]:
    return [
        f"{name}: {_or_unknown(trait(first))} -> {_or_unknown(trait(second))}"
        for name, trait in traits.items()
        if trait(first) != trait(second)
    ]


def _package(name: str) -> Callable[[Environment], object]:
    return lambda environment: environment.packages.get(name)


def _or_unknown(value: object) -> str:
    return "not known" if value is None else str(value)
