"""What this machine can do at most: bytes read, float32 and int8 operations in a second.

Measured at a job's number of threads, so that a result can be put beside its own roofline
(Williams, Waterman and Patterson 2009). Run as `python -m bench.ceilings` in a process of its own,
because BLAS takes its threads from the environment it starts in. NOT aware of models.
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

BUFFER_BYTES = 1 << 29  # shared out among the threads: larger than the caches of any CPU
SIDE = 1024
OPERATIONS = 2 * SIDE**3  # of one product: a multiply-add is two
BUDGET_S = 0.7  # of each kind of try, after one untimed
# operator of ONNX -> types of activations, weights and result
PRODUCTS: Mapping[str, tuple[type[np.generic], type[np.generic], type[np.generic]]] = {
    "MatMul": (np.float32, np.float32, np.float32),
    "MatMulInteger": (np.uint8, np.int8, np.int32),
}


@dataclass(frozen=True)
class Ceilings:
    """The best of a few tries each; None where it cannot be measured here."""

    read_bytes_per_s: float | None = None
    """Reading a buffer that no cache holds (numpy's maximum), all threads together."""
    fp32_flops_per_s: float | None = None
    """A square product, in numpy's BLAS or in ONNX Runtime, whichever is faster."""
    int8_ops_per_s: float | None = None
    """A square MatMulInteger in ONNX Runtime, int32 sums; two operations a multiply-add."""


def measure_ceilings(threads: int) -> Ceilings:
    """All three, in about four seconds; BLAS must have been started with `threads`."""
    return Ceilings(_read(threads), _fp32(threads), _onnxruntime("MatMulInteger", threads))


def best_s(attempt: Callable[[], object], budget_s: float = BUDGET_S) -> float:
    """The shortest of the tries that a budget allows: noise only ever makes one longer."""
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
    with ThreadPoolExecutor(threads) as pool:  # numpy lets go of the interpreter's lock
        return size * 8 * threads / best_s(lambda: list(pool.map(np.max, parts)))


def _fp32(threads: int) -> float:
    a, b = (np.ones((SIDE, SIDE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    blas = OPERATIONS / best_s(lambda: np.matmul(a, b, out=out))
    return max(blas, _onnxruntime("MatMul", threads) or 0.0)


def _onnxruntime(operator: str, threads: int) -> float | None:
    """Operations in a second of one product with constant weights; None without the libraries."""
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
    """A graph of that operator alone."""
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
