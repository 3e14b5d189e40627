"""`make fuzz-parsers`: looks for bytes that a parser neither takes nor refuses, by coverage.

`python -m tests.fuzz.guided SECONDS [PARSER…]` gives each parser, in a process of its own, to
atheris, which keeps the inputs that reach new code and changes them further. What it finds is kept
in build/fuzz/parsers/; exit code 1 if there is any.
"""

import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

KEPT = Path("build/fuzz/parsers")
TIMEOUT_S, MEMORY_MB = 20, 2048
ONE = "--one"


def main(words: Sequence[str]) -> int:
    """Runs the parsers that the words name (none: all) for so many seconds each."""
    from tests.fuzz.parsers import PARSERS, examples
    from tests.fuzz.sound import make_sound

    seconds, names = int(words[0]), words[1:] or list(PARSERS)
    KEPT.mkdir(parents=True, exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory(prefix="pocket-vlm-parsers-") as folder:
        sound = make_sound(Path(folder) / "sound")
        for name in names:
            corpus = Path(folder) / name
            corpus.mkdir()
            for number, data in enumerate(examples(name, sound)):
                (corpus / str(number)).write_bytes(data)
            command = [sys.executable, "-m", "tests.fuzz.guided", ONE, name, str(corpus)]
            ended = subprocess.run([*command, *_options(name, seconds)], check=False)
            failed += [name] if ended.returncode else []
            inputs = len(list(corpus.iterdir()))
            sys.stdout.write(f"{name}: {inputs} inputs reach code of their own in {seconds} s\n")
    sys.stdout.write(f"findings: {', '.join(failed) or 'none'}\n")
    return 1 if failed else 0


def _options(name: str, seconds: int) -> list[str]:
    return [
        f"-max_total_time={seconds}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={KEPT.resolve()}/{name}-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]


def one(words: Sequence[str]) -> None:
    """Gives one parser to atheris; does not return."""
    import atheris

    with atheris.instrument_imports(include=["export", "runtimes", "bench", "json"]):
        from tests.fuzz.parsers import changed_bytes, outcome

    name, *options = words

    def try_(data: bytes) -> None:
        said = outcome(name, data)
        assert "\n" not in said, "an error of several lines"

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        chosen = random.Random(seed)
        made = changed_bytes(name, data, chosen) if chosen.random() < 0.5 else b""
        return made if 0 < len(made) <= most else atheris.Mutate(data, most)

    atheris.Setup([sys.argv[0], *options], try_, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == ONE:
        one(sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
