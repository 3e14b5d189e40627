"""Runs llama.cpp's converter in one process as often as it is asked to.

    python run_converter.py SOURCE

reads lines [pre-tokenizer, [arguments of convert_hf_to_gguf.py]] as JSON and answers each by one.
The converter knows a pre-tokenizer by a hash of ids of the real vocabulary, which a twin or a cut
vocabulary does not have, so it is told. Its own gguf package is used, not the installed one.
"""

import json
import runpy
import sys
from pathlib import Path


def main(source: Path) -> None:
    sys.path[:0] = [str(source), str(source / "gguf-py")]
    from conversion.base import TextModel

    script = str(source / "convert_hf_to_gguf.py")
    for line in sys.stdin:
        pre, arguments = json.loads(line)
        TextModel.get_vocab_base_pre = lambda self, tokenizer, pre=pre: pre
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        print("done", flush=True)  # noqa: T201 - it speaks with the process that started it


if __name__ == "__main__":
    main(Path(sys.argv[1]))
