"""Answers requests with transformers.js in a page of Chromium, on WebGPU."""

from export.artifact import Artifact
from runtimes.browser.session import BrowserSession, expect_own_tiles


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> BrowserSession:
    """Loads an artifact of the layout transformers.js in Chromium, on WebGPU.

    Where there is no GPU, SwiftShader computes on the CPU. Raises UserError as on WebAssembly.
    """
    expect_own_tiles(artifact)
    return BrowserSession(artifact, threads, "webgpu")
