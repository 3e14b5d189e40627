"""Defines the LiteRT target: one bundle (.litertlm) for LiteRT-LM, Google's runner on phones."""

from export.target import Target, late

LITERT = Target(
    layouts=("native",),
    write=late("export.litert.write:write"),
    recipes=("fp32", "int8"),
    families=("smolvlm", "gemma3", "internvl"),  # whose images are tiles of one size
    extra="litert",
    imports=("litert_torch", "litert_lm_builder"),
    tools={
        "litert_torch": "litert-torch",
        "ai_edge_litert": "ai-edge-litert",
        "ai_edge_quantizer": "ai-edge-quantizer",
        "litert_lm_builder": "litert-lm-builder",
        "torch": "torch",
    },
)
