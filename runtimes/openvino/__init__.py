"""Runs ONNX artifacts with OpenVINO.

Importing this package imports OpenVINO without `openvino_telemetry`, by which it would report each
import to its maker (findings/openvino-import-reports.sh).
"""

import sys

_REPORTS = "openvino_telemetry"
_known = sys.modules.get(_REPORTS)
sys.modules[_REPORTS] = None  # type: ignore[assignment]  # how Python marks what must not be found
try:
    import openvino  # noqa: F401
finally:
    del sys.modules[_REPORTS]
    if _known is not None:
        sys.modules[_REPORTS] = _known
