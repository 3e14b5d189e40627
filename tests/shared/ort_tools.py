"""What ONNX Runtime's own tools read in .ort files.

    python tests/shared/ort_tools.py FOLDER…

writes for each folder of .ort files a JSON line: the folder, and what its tools list as required
operators, find in our list of them, and count as nodes. In a process of its own, because importing
the tools sets up logging and changes sys.path.
"""

import json
import sys
from pathlib import Path
from typing import Any


def tools_answers(folder: Path) -> dict[str, Any]:
    """What ONNX Runtime's tools say of a folder."""
    from onnxruntime.tools.ort_format_model import (
        OrtFormatModelProcessor,
        create_config_from_models,
    )
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    class Counter(OrtFormatModelProcessor):  # type: ignore[misc]
        """Counts nodes instead of collecting their operators."""

        nodes = 0

        def _add_required_op(self, *_: object) -> None:
            self.nodes += 1

    files = sorted(folder.glob("*.ort"))
    listed = folder / "listed.config"
    create_config_from_models(files, listed, enable_type_reduction=False)
    nodes = {}
    for file in files:
        counter = Counter(str(file), {}, None)
        counter.process()
        nodes[file.stem] = counter.nodes
    return {
        "folder": folder.name,
        "needed": plain(parse_config(str(listed))[0]),
        "ours": plain(parse_config(str(folder / "required_operators.config"))[0]),
        "nodes": nodes,
    }


def plain(operators: dict[str, dict[int, set[str]]]) -> dict[str, list[str]]:
    return {
        f"{domain} {since}": sorted(names)
        for domain, versions in operators.items()
        for since, names in versions.items()
    }


if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment] # absent: importing it takes seconds
    for name in sys.argv[1:]:
        sys.stdout.write(json.dumps(tools_answers(Path(name))) + "\n")
