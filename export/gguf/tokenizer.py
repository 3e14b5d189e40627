"""Converts a tokenizer.json, byte-level BPE or SentencePiece, to GGUF metadata."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from gguf import Keys, TokenType
from tokenizers import Tokenizer

from export.checkpoint.tokenizer import SPACE
from export.errors import UserError
from export.families.spec import Gguf
from export.files import parse_json, plain_text
from export.gguf.metadata import Value
from export.modeling.vlm import Vlm

Json = Mapping[str, Any]
TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"

BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
# Added tokens that llama.cpp's conversion/base.py treats as control tokens even if not "special".
MARKUP = re.compile(
    r"<\|.*\|>|<\uff5c.*\uff5c>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL
)
OTHER_SCORES: Mapping[TokenType, float] = {
    TokenType.CONTROL: -1000.0,
    TokenType.USER_DEFINED: -1000.0,
    TokenType.UNUSED: -10000.0,
}
NO_MERGES = "no merges"
"""Joins the symbols "no" and "merges", which never arise because all symbols are single bytes.
llama.cpp needs a list of merges, and gguf writes no empty one."""

# Role in tokenizer_config.json -> GGUF key, as llama.cpp's converter has it (gguf.SpecialVocab).
ROLES: Mapping[str, str] = {
    "bos": Keys.Tokenizer.BOS_ID,
    "eos": Keys.Tokenizer.EOS_ID,
    "unk": Keys.Tokenizer.UNK_ID,
    "sep": Keys.Tokenizer.SEP_ID,
    "pad": Keys.Tokenizer.PAD_ID,
    "mask": Keys.Tokenizer.MASK_ID,
}


def tokenizer_metadata(files: Mapping[str, bytes], vlm: Vlm, facts: Gguf) -> dict[str, Value]:
    """Returns a tokenizer as GGUF metadata: vocabulary, merges or scores, ids, chat template.

    `files`: content of the checkpoint's tokenizer and configuration files by name (Model.files).
    The vocabulary has exactly the model's size; ids without a token become unused tokens. Raises
    UserError if tokenizer.json is missing, invalid, or not of the kind that `facts` names.
    """
    content = _json(files, TOKENIZER)
    config = _json(files, CONFIG) if CONFIG in files else {}
    _expect_kind(content.get("model", {}), facts)
    tokens, types = vocabulary(content, vlm.text.vocab)
    return {
        **_space_prefix(config, facts),
        Keys.Tokenizer.MODEL: facts.tokenizer,
        Keys.Tokenizer.PRE: facts.tokenizer_pre,
        Keys.Tokenizer.LIST: tokens,
        Keys.Tokenizer.TOKEN_TYPE: [int(kind) for kind in types],
        **KINDS[facts.tokenizer](content["model"], tokens, types),
        **_special_ids(tokens, config, vlm),
        **_added(files[TOKENIZER], content, config, vlm),
        **({} if facts.add_bos is None else {Keys.Tokenizer.ADD_BOS: facts.add_bos}),
        **_chat_template(files, config),
    }


def _expect_kind(model: Json, facts: Gguf) -> None:
    kind = model.get("type")
    if kind != "BPE":
        raise UserError(
            f"{TOKENIZER}: has type {kind}, but GGUF export needs BPE; take the "
            f"tokenizer of the same checkpoint"
        )
    sentencepiece = facts.tokenizer == "llama"
    if bool(model.get("byte_fallback")) != sentencepiece:
        found, expected = "a byte-level BPE", "one with byte_fallback, as SentencePiece's are"
        if not sentencepiece:
            found, expected = "a BPE with byte_fallback", "a byte-level one"
        raise UserError(
            f"{TOKENIZER}: is {found}, but llama.cpp expects {expected} for {facts.arch}; take the "
            f"tokenizer of the same checkpoint"
        )


def _space_prefix(config: Json, facts: Gguf) -> dict[str, Value]:
    """Returns the key that says whether a space is put before a text, or {} for no such key.

    Byte-level BPE: as add_prefix_space of tokenizer_config.json, {} if it is not there.
    SentencePiece: False. Families whose files lack the key: {}.
    """
    said = config.get("add_prefix_space") if facts.tokenizer == "gpt2" else False
    return {Keys.Tokenizer.ADD_PREFIX: said} if facts.space_prefix and said is not None else {}


def vocabulary(content: Json, size: int) -> tuple[list[str], list[TokenType]]:
    """Returns the texts and the types of tokens 0 to `size` - 1 of a parsed tokenizer.json.

    Ids without a token are unused tokens [PAD<id>]; tokens with larger ids are left out.
    """
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [TokenType.UNUSED] * size
    for token, number in content["model"]["vocab"].items():
        if number < size:
            types[number] = TokenType.NORMAL
            tokens[number] = token
    for added in content.get("added_tokens") or ():
        if added["id"] < size:
            types[added["id"]], tokens[added["id"]] = _typed(added)
    return tokens, types


def _typed(added: Json) -> tuple[TokenType, str]:
    token = str(added["content"])
    if added["special"] or MARKUP.fullmatch(token):
        return TokenType.CONTROL, token
    # llama.cpp searches the raw text for user-defined tokens.
    return TokenType.USER_DEFINED, token.replace(SPACE, " ")


def _merges(model: Json, tokens: list[str], types: list[TokenType]) -> dict[str, Value]:
    """Returns the merges of a byte-level BPE as metadata, in their order; never an empty list."""
    return {Keys.Tokenizer.MERGES: [_merge(merge) for merge in model["merges"]] or [NO_MERGES]}


def _merge(merge: str | list[str]) -> str:
    """Returns a merge as one string of two parts with a space between.

    tokenizer.json has a merge as such a string or as a list; spaces inside a list's parts become Ġ.
    """
    if isinstance(merge, str):
        return merge
    return " ".join(part.replace(" ", "Ġ") for part in merge)


def _scores(model: Json, tokens: list[str], types: list[TokenType]) -> dict[str, Value]:
    """Returns each token's score and type, as llama.cpp would read them from SentencePiece's file.

    A score is the negated rank of the token's merge; characters without a merge rank after all
    merges. Bytes get 0, added tokens -1000 and unused ids -10000 (llama.cpp conversion/base.py).
    Tokens like <0x0A> get the type BYTE. Raises UserError for longer tokens without any merge.
    """
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        parts = merge if isinstance(merge, list) else merge.split(" ")
        ranks.setdefault("".join(parts), rank)
    normal = [number for number, kind in enumerate(types) if kind is TokenType.NORMAL]
    merged = [number for number in normal if tokens[number] in ranks]
    others = [n for n in normal if tokens[n] not in ranks and tokens[n] not in BYTES]
    if not merged and any(len(tokens[number]) > 1 for number in others):
        raise UserError(
            f"{TOKENIZER}: has no merges, but llama.cpp joins all neighbours that are a token "
            f"together, so its ids would differ; export for the onnx target instead"
        )
    pieces = [*sorted(merged, key=lambda number: ranks[tokens[number]]), *others]
    scores = [OTHER_SCORES.get(kind, 0.0) for kind in types]
    for rank, number in enumerate(pieces):
        scores[number] = -float(rank)
    kinds = [int(kind) for kind in types]
    for number in set(normal).difference(pieces):
        kinds[number] = int(TokenType.BYTE)
    return {Keys.Tokenizer.SCORES: scores, Keys.Tokenizer.TOKEN_TYPE: kinds}


KINDS: Mapping[str, Callable[[Json, list[str], list[TokenType]], dict[str, Value]]] = {
    "gpt2": _merges,
    "llama": _scores,
}


def _special_ids(tokens: list[str], config: Json, vlm: Vlm) -> dict[str, Value]:
    ids: dict[str, Value] = {}
    if vlm.bos_token_id is not None and vlm.bos_token_id < len(tokens):
        ids[Keys.Tokenizer.BOS_ID] = vlm.bos_token_id
    if vlm.stop_token_ids:
        ids[Keys.Tokenizer.EOS_ID] = vlm.stop_token_ids[0]
    for role, key in ROLES.items():
        token = config.get(f"{role}_token")
        if isinstance(token, Mapping):
            token = token.get("content")
        if token in tokens:
            ids[key] = tokens.index(token)
    return ids


def _added(data: bytes, content: Json, config: Json, vlm: Vlm) -> dict[str, Value]:
    """Returns the keys that say whether BOS and EOS are added to a text.

    tokenizer_config.json decides. Where it is silent, the post-processor of tokenizer.json is tried
    on an empty text; without one, the key is left out.
    """
    stated = {
        Keys.Tokenizer.ADD_BOS: config.get("add_bos_token"),
        Keys.Tokenizer.ADD_EOS: config.get("add_eos_token"),
    }
    if content.get("post_processor"):
        ids = Tokenizer.from_str(data.decode()).encode("").ids
        derived = {
            Keys.Tokenizer.ADD_BOS: ids[:1] == [vlm.bos_token_id],
            Keys.Tokenizer.ADD_EOS: bool(ids) and ids[-1] in vlm.stop_token_ids,
        }
        stated = {key: derived[key] if said is None else said for key, said in stated.items()}
    return {key: said for key, said in stated.items() if isinstance(said, bool)}


def _chat_template(files: Mapping[str, bytes], config: Json) -> dict[str, Value]:
    template = config.get("chat_template")
    if template is None and "chat_template.jinja" in files:
        template = plain_text(files["chat_template.jinja"], "chat_template.jinja")
    if template is None and "chat_template.json" in files:
        template = _json(files, "chat_template.json").get("chat_template")
    return {Keys.Tokenizer.CHAT_TEMPLATE: template} if isinstance(template, str) else {}


def _json(files: Mapping[str, bytes], name: str) -> Json:
    if name not in files:
        raise UserError(
            f"{name} is missing; a GGUF file contains the tokenizer, so the export needs it"
        )
    return parse_json(files[name], name)
