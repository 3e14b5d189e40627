"""llama.cpp computes where it is told, or says in one line why it cannot."""

import ctypes

import pytest

pytest.importorskip("llama_cpp")

from llama_cpp import llama_cpp as llama  # behind the check that it is there

from export.errors import UserError
from runtimes.devices import CPU, Device
from runtimes.llama_cpp.devices import gpu, model_settings
from runtimes.llama_cpp.log import complaints, silence


def test_on_the_cpu_it_is_given_no_device_at_all() -> None:
    settings = model_settings(CPU)
    listed = ctypes.cast(settings.devices, ctypes.POINTER(ctypes.c_void_p))
    assert (gpu(CPU), listed[0], settings.n_gpu_layers) == (None, None, 0)


def test_a_gpu_that_it_does_not_see_is_refused() -> None:
    silence()
    with pytest.raises(UserError, match=r"^llama.cpp sees no GPU 7 here and would use the CPU; "):
        model_settings(Device("cuda", 7))


def test_what_it_complains_of_is_kept_once_and_not_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    silence()
    complaints()
    assert not llama.llama_model_load_from_file(b"/no/such/file", model_settings(CPU))
    assert "/no/such/file" in complaints()
    assert complaints() == ""
    assert capfd.readouterr().err == ""
