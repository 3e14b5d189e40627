"""A tokenizer.json of SentencePiece's kind as the tokenizer.model that it was made from."""

import json
import re

from sentencepiece import sentencepiece_model_pb2 as proto

Kind = proto.ModelProto.SentencePiece.Type


def sentencepiece_model(tokenizer_json: bytes) -> bytes:
    """Pieces as SentencePiece's BPE trainer numbers them: merges in their order, then characters,
    each with its place negated; bytes and the special ones have 0."""
    content = json.loads(tokenizer_json)
    ids = dict(content["model"]["vocab"])
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    merged = dict.fromkeys("".join(merge) for merge in content["model"]["merges"])
    special = {token for token in ids if token in added or re.fullmatch("<0x[0-9A-F]{2}>", token)}
    others = [token for token in ids if token not in merged and token not in special]
    places = {token: place for place, token in enumerate([*merged, *others])}
    model = proto.ModelProto()
    for token, number in sorted(ids.items(), key=lambda item: item[1]):
        assert number == len(model.pieces)
        piece = model.pieces.add(piece=token, score=-float(places.get(token, 0)))
        piece.type = _kind(token, token in added)
    model.trainer_spec.model_type = proto.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(model.pieces)
    for role in ("unk", "bos", "eos", "pad"):
        setattr(model.trainer_spec, f"{role}_id", ids[f"<{role}>"])
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    return model.SerializeToString()


def _kind(token: str, added: bool) -> int:
    if token == "<unk>":
        return proto.ModelProto.SentencePiece.UNKNOWN
    if added:
        return proto.ModelProto.SentencePiece.CONTROL
    if token.startswith("<0x"):
        return proto.ModelProto.SentencePiece.BYTE
    return proto.ModelProto.SentencePiece.NORMAL
