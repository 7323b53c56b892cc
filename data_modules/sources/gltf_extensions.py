"""Extensions of glTF 2.0: those that are read, those that change nothing that is drawn, and what is said of others."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_modules.sources.files import short
from scaled_ig.errors import UsageError

DRACO = "KHR_draco_mesh_compression"
INSTANCING = "EXT_mesh_gpu_instancing"
VISIBILITY = "KHR_node_visibility"
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
READ_IMAGES = ("EXT_texture_webp", "MSFT_texture_dds")
READ = {
    "KHR_materials_emissive_strength", "KHR_materials_pbrSpecularGlossiness", "KHR_materials_unlit",
    "KHR_materials_variants", "KHR_mesh_quantization", "KHR_texture_transform", INSTANCING, VISIBILITY, *READ_IMAGES,
}  # fmt: skip
# Light and sound, what a program may do with a scene, other looks that it may have, and words about it.
WITHOUT_EFFECT = {
    "EXT_lights_ies", "EXT_lights_image_based", "KHR_lights_punctual", "KHR_audio_emitter", "KHR_animation_pointer",
    "KHR_interactivity", "KHR_node_hoverability", "KHR_node_selectability", "KHR_physics_rigid_bodies",
    "KHR_implicit_shapes", "MSFT_lod", "EXT_instance_features", "EXT_mesh_features", "EXT_structural_metadata",
    "FB_ngon_encoding", "KHR_xmp", "KHR_xmp_json_ld", "VRM", "VRMC_vrm", "VRMC_springBone", "VRMC_node_constraint",
}  # fmt: skip
# Further forms of what is there in a plain form, too; where it is not, the file is refused.
OTHER_FORMS = {DRACO, *MESHOPT, "KHR_texture_basisu", "EXT_texture_avif"}


def require_extensions(path: Path, document: dict[str, Any]) -> None:
    """Refuses a document that requires an extension that is not read.

    Raises:
        UsageError: so it is; it names the extension.
    """
    for name in _names(document, "extensionsRequired"):
        if name == DRACO:
            require_draco(path)
        elif name not in READ:
            raise UsageError(f"{path} requires the glTF extension {name}, which is not read: export it without")


def require_draco(path: Path) -> None:
    """Refuses a file with compressed geometry where the library that reads it is not installed.

    Raises:
        UsageError: so it is.
    """
    if find_spec("DracoPy") is None:
        raise UsageError(
            f"{path} requires the glTF extension {DRACO}, which needs an extra: run pip install "
            "'scaled-ig[compressed]', or export it without"
        )


def extension_warnings(document: dict[str, Any]) -> list[str]:
    """What the views do not show of a document that can be read without it."""
    unread = [name for name in _names(document, "extensionsUsed") if name not in READ | WITHOUT_EFFECT | OTHER_FORMS]
    return [f"the glTF extension {name} is not read: the file may look otherwise elsewhere" for name in unread]


def _names(document: dict[str, Any], key: str) -> list[str]:
    names = document.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{key} is {short(names)}")
    return [short(name).strip("'\"") for name in names]
