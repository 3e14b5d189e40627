"""Measures the CPU's ceilings: the most bytes read and operations done per second.

A report compares a job's speed with them (roofline: Williams, Waterman and Patterson 2009), so they
are measured with the job's number of threads. `python -m bench.machine.ceilings THREADS` prints
them as JSON; it is a process of its own, because BLAS takes its number of threads from the
environment at its start.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import numpy as np

BUFFER_BYTES = 1 << 29  # divided among the threads; larger than the caches of any CPU
SIDE = 1024
OPERATIONS = 2 * SIDE**3  # of one product; a multiply-add counts as two
BUDGET_S = 0.7  # for repeating each measurement, after one untimed try
# ONNX operator -> types of its two inputs and its result
PRODUCTS: Mapping[str, tuple[type[np.generic], type[np.generic], type[np.generic]]] = {
    "MatMul": (np.float32, np.float32, np.float32),
    "MatMulInteger": (np.uint8, np.int8, np.int32),
}


@dataclass(frozen=True)
class Ceilings:
    """The CPU's highest measured rates, each the best of several tries.

    A rate is None if it cannot be measured here, for example without ONNX Runtime.
    """

    read_bytes_per_s: float | None = None
    """Bytes read from a buffer larger than the caches (numpy's maximum), all threads together."""
    fp32_flops_per_s: float | None = None
    """Rate of a product of square matrices, in numpy's BLAS or ONNX Runtime: the faster one."""
    int8_ops_per_s: float | None = None
    """Rate of MatMulInteger on square matrices in ONNX Runtime; a multiply-add counts as two."""


def measure_ceilings(threads: int) -> Ceilings:
    """Measure the CPU's ceilings with that many threads, which takes about four seconds.

    The process's BLAS must have been started with the same number (OMP_NUM_THREADS).
    """
    return Ceilings(_read(threads), _fp32(threads), _onnxruntime("MatMulInteger", threads))


def best_s(attempt: Callable[[], object], budget_s: float = BUDGET_S) -> float:
    """Call `attempt` repeatedly for `budget_s` seconds; return the seconds of the fastest call.

    A first call is not timed. The fastest counts because noise only makes a call slower.
    """
    attempt()
    best, end = float("inf"), time.perf_counter() + budget_s
    while time.perf_counter() < end:
        start = time.perf_counter()
        attempt()
        best = min(best, time.perf_counter() - start)
    return best


def _read(threads: int) -> float:
    size = BUFFER_BYTES // 8 // threads
    parts = [np.ones(size, np.int64) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:  # numpy releases the GIL
        return size * 8 * threads / best_s(lambda: list(pool.map(np.max, parts)))


def _fp32(threads: int) -> float:
    a, b = (np.ones((SIDE, SIDE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    blas = OPERATIONS / best_s(lambda: np.matmul(a, b, out=out))
    return max(blas, _onnxruntime("MatMul", threads) or 0.0)


def _onnxruntime(operator: str, threads: int) -> float | None:
    """Measure operations per second of an ONNX matrix product with a constant second input.

    `operator` is a key of PRODUCTS. None if onnxruntime or onnx is not installed.
    """
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        return None
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = _product(operator)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {"a": np.ones((SIDE, SIDE), PRODUCTS[operator][0])}
    return OPERATIONS / best_s(lambda: session.run(None, feeds))


def _product(operator: str) -> bytes:
    """Make an ONNX model, as bytes, that has only that operator (a key of PRODUCTS)."""
    from onnx import helper, numpy_helper

    shape = (SIDE, SIDE)
    a, b, c = PRODUCTS[operator]
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in (a, c)]
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", kinds[0], shape)],
        [helper.make_tensor_value_info("c", kinds[1], shape)],
        [numpy_helper.from_array(np.ones(shape, b), "b")],
    )
    opsets = [helper.make_opsetid("", 21)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


if __name__ == "__main__":
    threads = len(os.sched_getaffinity(0)) if len(sys.argv) < 2 else int(sys.argv[1])
    sys.stdout.write(json.dumps(asdict(measure_ceilings(threads))) + "\n")
