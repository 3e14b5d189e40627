"""Exports small vision-language models to ONNX, GGUF and ExecuTorch, and proves each export.

    import export

    artifact = export.export_model("tiny-smolvlm", target="onnx", recipe="int4")

`import export` is cheap: each name below is imported when it is first used.
"""

from typing import TYPE_CHECKING

from export.lazy import importing

__all__ = [
    "FAMILIES",
    "RECIPES",
    "TARGETS",
    "Artifact",
    "Manifest",
    "Model",
    "ProofFailed",
    "UserError",
    "export_model",
    "list_models",
    "load_artifact",
    "open_model",
    "verify_digests",
]

if TYPE_CHECKING:
    from export.artifact import Artifact, load_artifact, verify_digests
    from export.build import ProofFailed
    from export.checkpoint.registry import list_models, open_model
    from export.errors import UserError
    from export.exporter import export_model
    from export.families import FAMILIES
    from export.manifest import Manifest
    from export.model import Model
    from export.quantize.recipe import RECIPES
    from export.targets import TARGETS
else:
    __getattr__ = importing(
        __name__,
        {
            "FAMILIES": "export.families",
            "RECIPES": "export.quantize.recipe",
            "TARGETS": "export.targets",
            "Artifact": "export.artifact",
            "Manifest": "export.manifest",
            "Model": "export.model",
            "ProofFailed": "export.build",
            "UserError": "export.errors",
            "export_model": "export.exporter",
            "list_models": "export.checkpoint.registry",
            "load_artifact": "export.artifact",
            "open_model": "export.checkpoint.registry",
            "verify_digests": "export.artifact",
        },
    )
