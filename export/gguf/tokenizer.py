"""A byte-level BPE tokenizer as GGUF metadata. NOT aware of tensors or of the prompt."""

import json
from collections.abc import Mapping
from typing import Any

from gguf import Keys, TokenType
from tokenizers import AddedToken, Tokenizer

from export.errors import UserError
from export.families.spec import Vlm
from export.gguf.metadata import Value

Json = Mapping[str, Any]
TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"

# Role in tokenizer_config.json -> key; what llama.cpp's converter writes (gguf.SpecialVocab).
ROLES: Mapping[str, str] = {
    "bos": Keys.Tokenizer.BOS_ID,
    "eos": Keys.Tokenizer.EOS_ID,
    "unk": Keys.Tokenizer.UNK_ID,
    "sep": Keys.Tokenizer.SEP_ID,
    "pad": Keys.Tokenizer.PAD_ID,
    "mask": Keys.Tokenizer.MASK_ID,
}


def tokenizer_metadata(files: Mapping[str, bytes], vlm: Vlm, pre: str) -> dict[str, Value]:
    """Vocabulary, merges, special ids and chat template under llama.cpp's keys.

    `files` are an opened model's, `pre` is llama.cpp's name of the pre-tokenizer. The vocabulary
    has exactly the model's size: ids without a token become unused ones. Raises UserError where
    there is no byte-level BPE tokenizer.
    """
    content = _json(files, TOKENIZER)
    config = _json(files, CONFIG) if CONFIG in files else {}
    kind = content.get("model", {}).get("type")
    if kind != "BPE":
        raise UserError(
            f"{TOKENIZER}: a tokenizer of type {kind}, but GGUF export needs BPE; take the "
            f"tokenizer of the same checkpoint"
        )
    tokenizer = Tokenizer.from_str(files[TOKENIZER].decode())
    tokens, types = _vocabulary(tokenizer, vlm.text.vocab)
    metadata: dict[str, Value] = {}
    if isinstance(config.get("add_prefix_space"), bool):
        metadata[Keys.Tokenizer.ADD_PREFIX] = config["add_prefix_space"]
    return metadata | {
        Keys.Tokenizer.MODEL: "gpt2",
        Keys.Tokenizer.PRE: pre,
        Keys.Tokenizer.LIST: tokens,
        Keys.Tokenizer.TOKEN_TYPE: types,
        Keys.Tokenizer.MERGES: [_merge(merge) for merge in content["model"]["merges"]],
        **_special_ids(tokens, config, vlm),
        **_added(tokenizer, config, vlm),
        **_chat_template(files, config),
    }


def _vocabulary(tokenizer: Tokenizer, size: int) -> tuple[list[str], list[int]]:
    """Tokens and their types by id; added tokens that look like markup are control tokens."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [int(TokenType.UNUSED)] * size
    added = tokenizer.get_added_tokens_decoder()
    for token, number in tokenizer.get_vocab().items():
        if number < size:
            tokens[number], types[number] = token, int(_type(added.get(number)))
    return tokens, types


def _type(added: AddedToken | None) -> TokenType:
    if added is None:
        return TokenType.NORMAL
    markup = added.content.startswith("<|") and added.content.endswith("|>")
    return TokenType.CONTROL if added.special or markup else TokenType.USER_DEFINED


def _merge(merge: str | list[str]) -> str:
    """Both spellings of tokenizer.json; a space inside a part is written as byte-level BPE does."""
    if isinstance(merge, str):
        return merge
    return " ".join(part.replace(" ", "Ġ") for part in merge)


def _special_ids(tokens: list[str], config: Json, vlm: Vlm) -> dict[str, Value]:
    ids: dict[str, Value] = {}
    if vlm.bos_token_id < len(tokens):
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


def _added(tokenizer: Tokenizer, config: Json, vlm: Vlm) -> dict[str, Value]:
    """Whether text gets a begin or an end token; left out where the tokenizer never adds any."""
    stated = {
        Keys.Tokenizer.ADD_BOS: config.get("add_bos_token"),
        Keys.Tokenizer.ADD_EOS: config.get("add_eos_token"),
    }
    if ids := tokenizer.encode("").ids:
        derived = {
            Keys.Tokenizer.ADD_BOS: ids[0] == vlm.bos_token_id,
            Keys.Tokenizer.ADD_EOS: ids[-1] in vlm.stop_token_ids,
        }
        stated = {key: derived[key] if said is None else said for key, said in stated.items()}
    return {key: said for key, said in stated.items() if isinstance(said, bool)}


def _chat_template(files: Mapping[str, bytes], config: Json) -> dict[str, Value]:
    template = config.get("chat_template")
    if template is None and "chat_template.jinja" in files:
        template = files["chat_template.jinja"].decode()
    if template is None and "chat_template.json" in files:
        template = _json(files, "chat_template.json").get("chat_template")
    return {Keys.Tokenizer.CHAT_TEMPLATE: template} if isinstance(template, str) else {}


def _json(files: Mapping[str, bytes], name: str) -> Json:
    if name not in files:
        raise UserError(f"{name} is missing; GGUF keeps the tokenizer inside, so export needs it")
    try:
        content = json.loads(files[name])
    except ValueError as error:
        raise UserError(f"{name}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{name}: expected a JSON object, found {type(content).__name__}")
    return content
