"""The command, with a fake target: what it keeps, what it prints, and how it ends."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from export.__main__ import main, parser, run
from export.artifact import Artifact, load_artifact, verify_digests
from export.checkpoint.registry import data_root
from export.errors import UserError
from export.manifest import Fallback, Quantization, Share
from export.model import Model
from export.modeling.vlm import component
from export.proof import Checks, Fidelity, PreprocessingCheck, Proof, Skipped, TensorCheck
from export.quantize.recipe import RECIPES, Recipe
from export.target import Target, Write, Written
from export.targets import TARGETS
from tests.export.checkpoints import make


def write(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """A target that keeps every tensor as raw float32 in one file a component."""
    shares: dict[str, Share] = {}
    for name, shape in model.weights.shapes().items():
        values = model.weights.read(name)
        assert values.shape == shape
        with (folder / f"{component(name)}.raw").open("ab") as file:
            file.write(values.tobytes())
        old = shares.get(component(name), Share(0, 0, 0))
        shares[component(name)] = Share(
            old.parameters + values.size, 0, old.weight_bytes + values.nbytes
        )
    count = sum(share.parameters for share in shares.values())
    fallback = Fallback("blk.0.attn_q.weight", recipe.name, "float32", "fake packs nothing")
    return Written(
        {name: (f"{name}.raw",) for name in shares},
        Quantization.of(shares, {"float32": count}, (fallback,)),
    )


def write_slowly(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Writes something, says so, and then takes long."""
    (folder / "half.raw").write_bytes(bytes(1000))
    sys.stdout.write("started\n")
    sys.stdout.flush()
    time.sleep(60)
    raise AssertionError("should have been stopped")


def fill_disk(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    (folder / "half.raw").write_bytes(bytes(1000))
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def targets(function: Write = write) -> Mapping[str, Target]:
    """Targets whose sizes cannot be predicted."""
    return {name: Target(("native",), function) for name in TARGETS}


def proof(passed: bool | None, *failures: str) -> Callable[[Model, Artifact], Proof]:
    left_out = Skipped("a fake proof")
    logits = Fidelity(3, 0.00012345, 0.0, 0.0, 0.0, 1.0)
    ids = PreprocessingCheck(6, None, 6, True, pixels="not compared, a fake")
    checks = Checks(TensorCheck(9), ids, features=left_out, logits=logits, greedy=left_out)
    reason = "it is a fake" if passed is None else None
    return lambda model, artifact: Proof(passed, reason, failures, checks)


def arguments(folder: Path, *more: str) -> list[str]:
    out = folder.parent / "out"
    return [str(folder), "--target", "onnx", "--recipe", "int8", "--out", str(out), *more]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make(tmp_path / "model")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "model")


def test_an_export_says_that_it_replaced_an_artifact_of_another_model(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parser().parse_args(arguments(checkpoint, "--no-verify"))
    for settings, said in (({}, ""), ({}, ""), ({"of_a_tool": 1}, "config.json is ")):
        config = json.loads((checkpoint / "config.json").read_text())
        (checkpoint / "config.json").write_text(json.dumps(config | settings))
        assert run(args, targets=targets()) == 0
        shown = capsys.readouterr().err
        assert said in shown
        assert ("another model, now replaced" in shown) == bool(said)


def test_an_export_leaves_a_whole_artifact_with_its_proof(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parser().parse_args(arguments(checkpoint))
    assert run(args, targets=targets(), prove=proof(True)) == 0
    artifact = load_artifact(checkpoint.parent / "out")
    verify_digests(artifact)
    manifest = artifact.manifest
    assert left(checkpoint.parent) == ["out"]
    assert manifest.model == "model"
    assert manifest.proof is not None
    assert manifest.proof.passed is True
    assert manifest.quantization.bits_per_weight == 32
    shares = manifest.quantization.components.values()
    assert manifest.quantization.types == {"float32": sum(share.parameters for share in shares)}
    assert {"decoder.raw", "tokenizer.json", "config.json"} <= manifest.files.keys()
    shown = capsys.readouterr()
    for words in (
        str(checkpoint.parent / "out"),
        "bits per weight 32.00: 100.0 % float32",
        "float32 instead of int8, fake packs nothing: blk.0.attn_q.weight",
        "proof: passed",
        "tensors: all 9 of the checkpoint are explained",
        "vision features: not compared: a fake proof",
        "logits: mean KLD 0.0001234 nats (limit: at most 0.05)",
        "peak memory",
    ):
        assert words in shown.out
    assert shown.err == ""


def test_json_is_one_object(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = parser().parse_args(arguments(checkpoint, "--json", "--no-verify"))
    assert run(args, targets=targets()) == 0
    facts = json.loads(capsys.readouterr().out)
    sizes = facts["component_bytes"]
    assert set(sizes) == {"vision", "embedding", "decoder"}
    assert sum(sizes.values()) < facts["total_bytes"]
    assert facts["proof"] is None
    assert facts["writing_peak_bytes"] <= facts["peak_bytes"]
    assert facts["fallbacks"][0]["reason"] == "fake packs nothing"


def test_two_equal_exports_have_equal_bytes(checkpoint: Path) -> None:
    contents = []
    for _ in range(2):
        args = parser().parse_args(arguments(checkpoint, "--no-verify"))
        assert run(args, targets=targets()) == 0
        contents.append((checkpoint.parent / "out" / "artifact.json").read_bytes())
    assert contents[0] == contents[1]


def test_a_failed_proof_keeps_nothing_and_says_why(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parser().parse_args(arguments(checkpoint))
    assert run(args, targets=targets(), prove=proof(False, "cosine 0.1", "top-1 0")) == 1
    assert capsys.readouterr().err == "proof failed: cosine 0.1; top-1 0; nothing was kept\n"
    assert left(checkpoint.parent) == []


def test_a_failed_proof_is_kept_with_its_figures_if_drift_is_allowed(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parser().parse_args(arguments(checkpoint, "--allow-drift"))
    assert run(args, targets=targets(), prove=proof(False, "cosine 0.1")) == 0
    kept = load_artifact(checkpoint.parent / "out").manifest.proof
    assert kept is not None
    assert kept.passed is False
    assert "FAILED, kept by --allow-drift" in capsys.readouterr().out


def test_a_proof_that_cannot_run_here_is_not_a_failure(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parser().parse_args(arguments(checkpoint))
    assert run(args, targets=targets(), prove=proof(None)) == 0
    assert "proof: no verdict (it is a fake)" in capsys.readouterr().out


def test_the_proof_gets_the_complete_folder_before_it_is_renamed(checkpoint: Path) -> None:
    def prove(model: Model, artifact: Artifact) -> Proof:
        assert artifact.path.name.startswith(".out.partial-")
        assert not (artifact.path / "artifact.json").exists()
        assert all((artifact.path / name).is_file() for name in artifact.manifest.files)
        return proof(True)(model, artifact)

    args = parser().parse_args(arguments(checkpoint))
    assert run(args, targets=targets(), prove=prove) == 0


def test_a_full_disk_leaves_nothing(checkpoint: Path) -> None:
    args = parser().parse_args(arguments(checkpoint, "--no-verify"))
    with pytest.raises(UserError, match=r"no space left on the disk of .*: needs about"):
        run(args, targets=targets(fill_disk))
    assert left(checkpoint.parent) == []


def test_the_default_folder_names_model_target_and_recipe(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    args = parser().parse_args(["model", "--target", "gguf", "--recipe", "fp16", "--no-verify"])
    assert run(args, targets=targets()) == 0
    assert load_artifact(Path("build/model/gguf-fp16")).manifest.recipe == "fp16"


def test_a_budget_is_refused_where_sizes_cannot_be_predicted(checkpoint: Path) -> None:
    argv = arguments(checkpoint, "--no-verify", "--budget-mb", "2")
    argv[argv.index("int8")] = "int4"
    with pytest.raises(UserError, match="--budget-mb: sizes of target onnx are only known after"):
        run(parser().parse_args(argv), targets=targets())
    assert left(checkpoint.parent) == []


def test_programs_find_the_keys_they_rely_on_in_artifact_json(checkpoint: Path) -> None:
    args = parser().parse_args(arguments(checkpoint))
    assert run(args, targets=targets(), prove=proof(True)) == 0
    content = json.loads((checkpoint.parent / "out" / "artifact.json").read_text())
    assert set(content["files"]["decoder.raw"]) == {"bytes", "sha256"}
    assert content["quantization"]["bits_per_weight"] == 32
    decoder = content["quantization"]["components"]["decoder"]
    assert set(decoder) == {"parameters", "quantized_parameters", "weight_bytes"}
    assert content["proof"]["passed"] is True
    assert content["proof"]["checks"]["tensors"] == {"explained": 9}
    assert content["proof"]["checks"]["features"] == {"skipped": "a fake proof"}
    assert (content["recipe"], content["recipe_used"]["base"]) == ("int8", "int8")


def test_random_weights_are_marked(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--weights", "synthetic", "--no-verify")
    assert run(parser().parse_args(arguments(checkpoint, *more)), targets=targets()) == 0
    assert load_artifact(checkpoint.parent / "out").manifest.synthetic
    assert "(random weights)" in capsys.readouterr().out


def test_max_tiles_is_stored_in_the_artifact(checkpoint: Path) -> None:
    run(parser().parse_args(arguments(checkpoint, "--no-verify")), targets=targets())
    unbounded = load_artifact(checkpoint.parent / "out").manifest.image
    budget = arguments(checkpoint, "--no-verify", "--max-tiles", "2")
    run(parser().parse_args(budget), targets=targets())
    bounded = load_artifact(checkpoint.parent / "out").manifest.image
    assert (unbounded.most_tiles, bounded.most_tiles) == (5, 2)


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_max_tiles_must_be_a_positive_integer(
    checkpoint: Path, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments(checkpoint, f"--max-tiles={number}"))
    assert f"'{number}' is not a positive integer" in capsys.readouterr().err


def test_a_users_error_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tiny-smolvm", "--target", "onnx", "--recipe", "int8"]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: unknown model 'tiny-smolvm'; did you mean tiny-smolvlm")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_control_characters_of_a_strangers_file_do_not_reach_the_terminal(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "x\n\x1b[31mred"}))
    assert main(arguments(checkpoint)) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "\x1b" not in shown


def test_choices_are_the_tables_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, known in (("--target", TARGETS), ("--recipe", RECIPES)):
        with pytest.raises(SystemExit) as stopped:
            main(["m", "--target", "onnx", "--recipe", "int8", flag, "none"])
        assert stopped.value.code == 2
        assert all(name in capsys.readouterr().err for name in list(known)[:1])


SLOW = (
    "import sys; from export.__main__ import main; from tests.export import test_main as fake; "
    "sys.exit(main(sys.argv[1:], targets=fake.targets(fake.write_slowly)))"
)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_export_leaves_nothing(checkpoint: Path, sent: signal.Signals, code: int) -> None:
    command = [sys.executable, "-c", SLOW, *arguments(checkpoint, "--no-verify")]
    with subprocess.Popen(
        command, cwd=data_root(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "started\n", process.stderr.read()
        process.send_signal(sent)
        assert process.wait(timeout=30) == code
        assert "Traceback" not in process.stderr.read()
    assert left(checkpoint.parent) == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom export.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = ('torch', 'transformers', 'onnx', 'onnx_ir', 'onnxruntime', 'gguf', 'runtimes', "
        "'tokenizers', 'huggingface_hub', 'rich')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=data_root(), check=True
    )
    assert "--recipe" in done.stdout
    assert done.stderr.strip() == "[]"
