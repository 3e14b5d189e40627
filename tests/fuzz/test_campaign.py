"""The campaign itself: it tries every command, judges rightly, and a few inputs of it in each run.

`make fuzz` tries many (docs/notes/2026-11-fuzz.md).
"""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.fuzz import kinds, media, sound, watch
from tests.fuzz.kinds import KINDS, Command, Input, Kind, Made, inputs
from tests.fuzz.report import finding_lines, table
from tests.fuzz.verdicts import Ending, finding

WELL = Ending(0, "", "", (), 0.1, 0)
MADE = Made("a byte", ("export", "in/model"), frozenset((0, 2)))
ONE_LINE = "error: config.json: hidden_size is -1, expected at least 1\n"


def test_every_command_is_tried() -> None:
    assert not kinds.UNTRIED


def test_inputs_are_in_the_shares_of_their_kinds_and_repeat() -> None:
    chosen = inputs(400)
    counts = {name: sum(one.kind == name for one in chosen) for name in KINDS}
    assert all(counts.values())
    assert counts["records"] > 4 * counts["proof"]
    assert inputs(400) == chosen
    assert inputs(1, "config/17") == [Input("config", 17)]
    assert 5 < sum(one.as_process for one in chosen) < 40


ENDINGS = {
    "": WELL,
    "it refuses in one line": Ending(2, "", ONE_LINE, (), 0.1, 0),
    "Traceback": Ending(1, "", "Traceback (most recent call last):\nValueError: x\n", (), 0.1, 0),
    "KeyError": Ending(None, "KeyError in export/x.py:read: 'a'", "", (), 0.1, 0),
    "a warning": Ending(0, "", "/x/y.py:7: UserWarning: odd\n  f()\n", (), 0.1, 0),
    "exit code 1": Ending(1, "", "proof failed: x\n", (), 0.1, 0),
    "2 lines": Ending(2, "", f"note\n{ONE_LINE}", (), 0.1, 0),
    "without one line": Ending(2, "", f"{ONE_LINE}more\n", (), 0.1, 0),
    "not printable": Ending(2, "", "error: a\rb\n", (), 0.1, 0),
    "/etc": Ending(0, "", "", ("open of /etc/x",), 0.1, 0),
    "61 s": Ending(0, "", "", (), 61.0, 0),
    "memory": Ending(0, "", "", (), 0.1, 2 << 30),
}


@pytest.mark.parametrize("words", ENDINGS)
def test_an_ending_is_judged(words: str, tmp_path: Path) -> None:
    found = finding(MADE, ENDINGS[words], tmp_path)
    assert words in found if words not in ("", "it refuses in one line") else not found


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (".artifact.partial-123", 2, "is left"),
        ("artifact", 2, "in spite of"),
        ("artifact", 0, "without artifact.json"),
    ],
)
def test_half_written_artifacts_are_findings(
    name: str, code: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    assert words in finding(MADE, Ending(code, "", ONE_LINE, (), 0.1, 0), tmp_path)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> watch.Campaign:
    folder = tmp_path_factory.mktemp("fuzz").resolve()
    made = watch.FORK.Process(target=sound.make_sound, args=(folder / "sound",))
    made.start()
    made.join()
    assert made.exitcode == 0
    cache = Path(os.environ["XDG_CACHE_HOME"]).resolve()
    places = (folder / "sound", folder / "tries", folder / "kept", cache)
    return watch.Campaign(1, *places, 300)


SMOKE = ("config", "header", "artifact.json", "image", "questions", "words")


def test_a_few_inputs_end_well(campaign: watch.Campaign) -> None:
    chosen = [Input(kind, number) for kind in SMOKE for number in range(2)]
    chosen = [one for one in chosen if not one.as_process]
    ended = list(watch.tried(campaign, chosen, workers=1))
    assert [finding_lines(one, 1) for one in ended if one.finding] == []
    assert {one.input for one in ended} == set(chosen)
    assert f"| all | {len(chosen)} |" in table(ended, 1.0, 1)
    assert not list((campaign.scratch).iterdir())


def _dies(chosen: object, folder: Path) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def _sleeps(chosen: object, folder: Path) -> str:
    time.sleep(600)
    return ""


@pytest.mark.parametrize(
    ("fault", "limit_s", "words"), [(_dies, 60.0, "SIGKILL"), (_sleeps, 0.0, "hangs")]
)
def test_a_worker_that_dies_or_hangs_is_a_finding_and_the_next_input_is_tried(
    fault, limit_s: float, words: str, campaign: watch.Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "GRACE_S", 0.2)
    listing = (Command("bench list --json"),)
    rows = {
        "bad": Kind(sound.FAKE, fault, listing),
        "good": Kind(sound.FAKE, media.no_fault, listing),
    }
    monkeypatch.setattr(kinds, "KINDS", rows)
    limited = watch.Campaign(
        1, campaign.sound, campaign.scratch, campaign.kept, campaign.cache, limit_s
    )
    bad = list(watch.tried(limited, [Input("bad", 0)], workers=1))
    assert words in bad[0].finding
    assert (campaign.kept / "bad-0").is_dir()
    good = list(watch.tried(campaign, [Input("good", 0)], workers=1))
    assert [one.verdict for one in good] == ["ok"]
