"""Sessions over programs of other projects; fakes stand for the programs."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from export.artifact import load_artifact
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.base import RemoteSession, Request
from runtimes.peers import __main__ as command
from runtimes.peers import llama_bench_program, llama_mtmd_cli, llama_server
from runtimes.peers.environments import ENVIRONMENTS, LLAMA, lack
from runtimes.peers.program import ProgramSession
from tests.bench.made import save_artifact

ROOT = Path(__file__).parents[2]
HERE = Path(sys.executable)
TEXT = Request(ids=(5, 6, 7), answer=(9, 9))
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = asked["prompt"]
        count = seen["prompt_string"].count("<__media__>") if isinstance(seen, dict) else len(seen)
        times = {"prompt_n": count, "prompt_ms": 20.0, "predicted_ms": 30.0}
        self.reply({"tokens": [4] * asked["n_predict"], "timings": times})

    def reply(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
BENCH = "import json, sys\nprint(json.dumps([{'avg_ns': 4e9 if '-d' in sys.argv else 2e9}]))\n"
FAILS = "import sys\nsys.exit('no such model')\n"
LOG = """\
0.00.250.000 I main: loading model: model.gguf
0.01.500.000 D add_media: adding 1 slices (1 rows x 1 cols)
0.01.600.000 I encoding mtmd batch, n_chunks = 1 (done = 1, total = 3)
0.02.600.000 I mtmd batch encoding done in 1000 ms
1.01.500.000 I mtmd batch encoding done in 500 ms
1.02.500.000 I llama_perf_context_print: prompt eval time =      80.42 ms /    64 tokens ( 1.26 ms)
1.02.500.000 I llama_perf_context_print:        eval time =    1000.00 ms /     4 runs   ( 250 ms)
"""
WriteProgram = Callable[[str, str], None]


@pytest.fixture
def write_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteProgram:
    """Puts a Python script in the place of one of llama.cpp's programs, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = ENVIRONMENTS["llama.cpp"].folder() / "bin"

    def write(name: str, script: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "python").touch()
        (folder / name).write_text(f"#!{HERE}\n{script}")
        (folder / name).chmod(0o755)

    return write


def test_locks_have_the_versions_that_we_have() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert LLAMA in pins
    for name, package in (
        ("genai", "onnxruntime-genai"),
        ("genai", "torch"),
        ("openvino", "torch"),
    ):
        assert f"{package}=={ENVIRONMENTS[name].version(package)}" in pins


def test_a_peer_without_its_environment_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ENVIRONMENTS:
        assert lack(name) == f"its environment {name} is not made (make peers ARGS={name})"
    assert "make peers ARGS=genai" in str(RUNTIMES["genai"].unavailable("native"))


def test_an_unknown_environment_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["genay"]) == 2
    assert capsys.readouterr().err == ("error: unknown environment 'genay'; did you mean genai?\n")


def test_a_program_answers_with_its_own_times(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    session = ProgramSession(HERE, "fake_text", tmp_path, threads=1)
    assert isinstance(session, RemoteSession)
    for _ in range(2):
        events = list(session.generate(TEXT))
        assert [event.kind for event in events] == ["prepare", "prefill", "token", "token"]
        assert [event.token for event in events[2:]] == [0, 1]
        assert all(event.seconds is not None for event in events)
    assert session.load_s is not None
    with pytest.raises(UserError, match="fake_text takes a prompt of token ids alone"):
        list(session.generate(Request(question="what?")))
    with pytest.raises(UserError, match="fake_text: ValueError: a 0 in the prompt"):
        list(session.generate(Request(ids=(0,))))
    session.close()


def test_a_program_that_ends_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file.*; build it again with bench peers"):
        ProgramSession(HERE, "fake_text", tmp_path / "none", threads=1)
    (tmp_path / "model").touch()
    session = ProgramSession(HERE, "fake_text", tmp_path, threads=1)
    with pytest.raises(UserError, match="fake_text: its process ended with exit code 3"):
        list(session.generate(Request(ids=(1,))))
    session.close()


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake artifact, whose files are not read."""
    for module in (llama_bench_program, llama_mtmd_cli, llama_server):
        monkeypatch.setattr(module, "decoder_file", lambda artifact: artifact.path / "model.gguf")
    for module in (llama_mtmd_cli, llama_server):
        monkeypatch.setattr(module, "tower_file", lambda artifact: artifact.path / "mmproj.gguf")
    return save_artifact(tmp_path / "fake")


def test_llama_bench_is_asked_for_a_prompt_and_for_steps(
    artifact: Path, write_program: WriteProgram
) -> None:
    write_program("llama-bench", BENCH)
    session = llama_bench_program.open_session(load_artifact(artifact), threads=1)
    events = list(session.generate(Request(ids=(1, 2), answer=(0,) * 5)))
    assert [event.seconds for event in events] == [0.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    write_program("llama-bench", FAILS)
    with pytest.raises(UserError, match=r"llama-bench ended with exit code 1 \(no such model\)"):
        list(session.generate(Request(ids=(1, 2))))


def test_llama_server_is_asked_over_http(artifact: Path, write_program: WriteProgram) -> None:
    write_program("llama-server", SERVER)
    session = llama_server.open_session(load_artifact(artifact), threads=1)
    assert isinstance(session, RemoteSession)
    events = list(session.generate(Request(ids=(1, 2, 3), answer=(0,) * 4)))
    assert [event.seconds for event in events] == [0.0, 0.02, 0.0, 0.01, 0.01, 0.01]
    assert events[1].positions == 3
    image = Image.new("RGB", (8, 8))
    asked = list(session.generate(Request(question="what?", images=(image, image), answer=(0,))))
    assert asked[1].positions == 2
    session.close()
    write_program("llama-server", FAILS)
    with pytest.raises(UserError, match=r"llama-server cannot open it \(no such model\)"):
        llama_server.open_session(load_artifact(artifact), threads=1)


def test_llama_mtmd_cli_is_timed_by_its_log(artifact: Path, write_program: WriteProgram) -> None:
    write_program("llama-mtmd-cli", f"import sys\nsys.stderr.write({LOG!r})\n")
    session = llama_mtmd_cli.open_session(load_artifact(artifact), threads=1)
    request = Request(question="what?", images=(Image.new("RGB", (8, 8)),), answer=(0,) * 3)
    prepare, image, prefill, *tokens = session.generate(request)
    assert (image.seconds, image.tiles, prepare.positions) == (1.5, 2, 64)
    assert prefill.seconds == pytest.approx(61.0 - 1.0 - 1.5)
    assert [token.seconds for token in tokens] == [0.0, 0.25, 0.25]
    write_program("llama-mtmd-cli", "")
    with pytest.raises(UserError, match="log has other lines than expected"):
        list(session.generate(request))
    with pytest.raises(UserError, match="takes questions about images"):
        list(session.generate(TEXT))
