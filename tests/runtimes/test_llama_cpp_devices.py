"""llama.cpp computes on the given device, or one line says why it cannot."""

import ctypes

import pytest

pytest.importorskip("llama_cpp")

from llama_cpp import llama_cpp as llama  # after importorskip

from export.errors import UserError
from runtimes.devices import CPU, Device
from runtimes.llama_cpp.devices import gpu, model_settings
from runtimes.llama_cpp.log import complaints, silence


def test_cpu_model_settings_list_no_device() -> None:
    settings = model_settings(CPU)
    listed = ctypes.cast(settings.devices, ctypes.POINTER(ctypes.c_void_p))
    assert (gpu(CPU), listed[0], settings.n_gpu_layers) == (None, None, 0)


def test_missing_gpu_is_refused() -> None:
    silence()
    with pytest.raises(UserError, match=r"^llama.cpp sees no GPU 7 here and would use the CPU; "):
        model_settings(Device("cuda", 7))


def test_errors_are_logged_and_returned_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    silence()
    complaints()
    assert not llama.llama_model_load_from_file(b"/no/such/file", model_settings(CPU))
    assert "/no/such/file" in complaints()
    assert complaints() == ""
    assert capfd.readouterr().err == ""
