"""The families a twin can have. A new family is one more module and one more row."""

from models.train import gemma3, moondream, qwen2_5_vl, smolvlm

FAMILIES = {
    "gemma3": gemma3.FAMILY,
    "moondream": moondream.FAMILY,
    "qwen2_5_vl": qwen2_5_vl.FAMILY,
    "smolvlm": smolvlm.FAMILY,
}
