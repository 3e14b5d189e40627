"""A machine without torch exports all the same, and the proof says why it has no verdict."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
from export.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_export_goes_through_unproven(tmp_path: Path) -> None:
    words = ["tiny-smolvlm", "--target", "gguf", "--recipe", "int4", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "proof: no verdict (torch is not installed" in done.stdout
    assert (tmp_path / "out" / "artifact.json").exists()
