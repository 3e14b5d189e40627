"""What holds for every test: no network (but pip, where a test starts it), no one's caches, one
thread.

Set before test modules are imported, because libraries read these settings on their own import;
processes that tests start inherit them.
"""

import ipaddress
import signal
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from quiet import SETTINGS

# A shell's background job ignores SIGINT, and so would what tests start to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class NetworkForbidden(RuntimeError):
    """A test reached for another machine. Not an OSError: nothing should mistake it for a failure
    of the network and go on."""


def pytest_configure(config: pytest.Config) -> None:
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    cache = tempfile.TemporaryDirectory(prefix="pocket-vlm-cache-")
    config.add_cleanup(cache.cleanup)
    patch.setenv("HF_HOME", f"{cache.name}/hub")
    patch.setenv("XDG_CACHE_HOME", cache.name)
    for name, value in SETTINGS.items():
        patch.setenv(name, value)
    for method in ("connect", "connect_ex"):
        patch.setattr(socket.socket, method, _guarded_connect(getattr(socket.socket, method)))
    patch.setattr(socket.socket, "sendto", _guarded_sendto(socket.socket.sendto))
    patch.setattr(socket, "getaddrinfo", _guarded_lookup(socket.getaddrinfo))


def _guarded_connect(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        _allow(self.family, address)
        return connect(self, address)

    return guarded


def _guarded_sendto(sendto: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, data: Any, *flags_and_address: Any) -> Any:
        _allow(self.family, flags_and_address[-1])
        return sendto(self, data, *flags_and_address)

    return guarded


def _guarded_lookup(lookup: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        _allow(socket.AF_INET, (host,))
        return lookup(host, *args, **kwargs)

    return guarded


def _allow(family: int, address: Any) -> None:
    if family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
        raise NetworkForbidden(f"tests run without network; this one asked for {address[0]!r}")


def _is_local(host: str | bytes | None) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", "0.0.0.0", "::"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
