"""Device profiles name only runtimes that exist."""

import pytest

from bench.machine.profiles import PROFILES
from runtimes import RUNTIMES


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_threads_memory_and_known_runtimes(name: str) -> None:
    profile = PROFILES[name]
    assert profile.threads >= 1
    assert profile.memory_bytes > 0
    assert profile.runtimes
    assert set(profile.runtimes) <= set(RUNTIMES)
    assert any(profile.device in RUNTIMES[runtime].devices for runtime in profile.runtimes)


def test_a_larger_phone_has_the_larger_budget() -> None:
    assert PROFILES["phone-4gb"].memory_bytes < PROFILES["phone-8gb"].memory_bytes
