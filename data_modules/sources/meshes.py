"""Mesh files of one's own: a folder of them, or a JSON manifest that says how each is turned and licensed."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from data_modules.sources.base import (
    UPPER_HEMISPHERE,
    Mesh,
    SceneEntry,
    SceneSource,
    SourceRecord,
    Viewpoints,
    normalize,
)
from data_modules.sources.files import read_json, short, walk
from data_modules.sources.gltf import read_gltf
from data_modules.sources.named_files import MissingFiles, NamedFiles, read_texture
from data_modules.sources.obj import read_obj
from data_modules.sources.pictures import TexturePixels
from data_modules.sources.ply import read_ply
from scaled_ig.errors import UsageError
from scaled_ig.files import file_sha256

SUFFIXES = (".glb", ".gltf", ".obj", ".ply")  # of a name in several formats the first is taken
TEXT_KEYS = ("id", "mesh", "up", "category", "variant_of", "texture_override")
LARGEST_ANGLE = 1e6  # degrees


class MeshSource(SceneSource):
    """Meshes found in a folder, or listed in a manifest.

    A manifest is a JSON list of rows ``{"id", "mesh", "up": "y" | "z", "yaw_deg", "category", "license", "sha256":
    {file: digest}, "variant_of", "texture_override"}``; only ``id`` and ``mesh`` must be there, paths are relative to
    the manifest. A variant takes the axes of the row that it names. In a folder the id of a mesh is its path without
    the suffix, and all have the same axes; of one name in several formats GLB is taken before glTF, OBJ and PLY.

    Args:
        path: folder or manifest.
        category: category of rows that name none.
        up: ``y`` or ``z``, the axis that points up in files whose row names none.
        yaw: degrees about the vertical that bring the front to -Y once up is +Z, where a row names none; 0 is for files
            whose front is +Z (+Y up) or -Y (+Z up).
        missing_files: what becomes of meshes whose materials or textures are missing, see ``NamedFiles``.

    Raises:
        UsageError: nothing found, an unreadable manifest, an id that is missing or not unique.
    """

    viewpoints: ClassVar[Viewpoints | None] = UPPER_HEMISPHERE

    def __init__(
        self,
        path: Path,
        category: str = "object",
        up: str = "y",
        yaw: float = 0.0,
        missing_files: MissingFiles = "leave_out",
    ) -> None:
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self.category = category
        self.up = up
        self.yaw = yaw
        self.missing_files = missing_files
        rows = _search(path) if path.is_dir() else _manifest(path)
        self.rows = {row["id"]: row for row in rows}
        if len(self.rows) < len(rows):
            raise UsageError(f"{path} names the same scene id twice: give every scene an id of its own")

    def scenes(self) -> list[SceneEntry]:
        """The rows of the manifest, or the files of the folder by name."""
        return [SceneEntry(row["id"], row.get("category", self.category)) for row in self.rows.values()]

    def load(self, scene_id: str) -> tuple[Mesh, SourceRecord]:
        """Reads one mesh and turns it into world axes."""
        row = self.rows[scene_id]
        path = self.folder / row["mesh"]
        shape = row.get("variant_of", scene_id)
        axes = self.rows.get(shape, row) | row
        self._refuse_changed_files(axes)
        files = NamedFiles(self.folder, self.missing_files)
        mesh = read_mesh(path, files)
        if "texture_override" in row:
            mesh = _with_texture(mesh, self.folder / row["texture_override"])
        try:
            mesh, normalization = normalize(mesh, axes.get("up", self.up), axes.get("yaw_deg", self.yaw))
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        record: SourceRecord = {
            "file": row["mesh"],
            "sha256": file_sha256(path),
            "license": axes.get("license"),
            "shape": shape,
            "normalization": normalization,
        }
        if files.missing:
            record["missing_files"] = sorted(files.missing)
            warnings = [f"{short(name)} is not there, and what it colours is drawn plain" for name in files.missing]
            mesh = replace(mesh, warnings=(*mesh.warnings, *warnings))
        return mesh, record | {key: row[key] for key in ("variant_of", "texture_override", "author") if key in row}

    def _refuse_changed_files(self, row: dict[str, Any]) -> None:
        for name, digest in row.get("sha256", {}).items():
            path = self.folder / name
            if not path.is_file():
                raise UsageError(f"scene {row['id']}: {path} is not there: restore it or remove the row")
            if file_sha256(path) != digest:
                raise UsageError(f"scene {row['id']}: {path} is not the file of the manifest: restore it or its sha256")


def read_mesh(path: Path, files: NamedFiles | None = None) -> Mesh:
    """Reads a mesh file by its suffix.

    Args:
        path: the file.
        files: finds the files that it names; in the folder of ``path`` unless given.

    Raises:
        UsageError: the file is missing, of an unknown kind, or malformed, or names a file elsewhere.
    """
    if not path.is_file():
        raise UsageError(f"the mesh {path} is not there: restore it or remove it from the list")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} is of no known kind: use {', '.join(SUFFIXES)}")
    files = files or NamedFiles(path.parent)
    readers = {".obj": read_obj, ".ply": read_ply}
    return readers.get(path.suffix.lower(), read_gltf)(path, files)


def _with_texture(mesh: Mesh, path: Path) -> Mesh:
    texture = read_texture(path, TexturePixels())[..., :3]
    painted = [m if m.texture is None else replace(m, texture=texture) for m in mesh.materials]
    return replace(mesh, materials=tuple(painted))


def _is_mesh(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _search(folder: Path) -> list[dict[str, Any]]:
    files = sorted(parent / name for parent, _, names in walk(folder) for name in names if _is_mesh(name))
    if not files:
        raise UsageError(f"{folder} holds no mesh ({', '.join(SUFFIXES)}): name another folder or a JSON manifest")
    names = [file.relative_to(folder) for file in files]
    taken: dict[str, Path] = {}
    for name in sorted(names, key=lambda name: SUFFIXES.index(name.suffix.lower())):
        taken.setdefault(name.with_suffix("").as_posix(), name)
    ids = [name.with_suffix("").as_posix() for name in names]
    return [{"id": id, "mesh": name.as_posix()} for id, name in zip(ids, names, strict=True) if taken[id] == name]


def _manifest(path: Path) -> list[dict[str, Any]]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise UsageError(f"{path} is no list of rows: name a folder of meshes or a JSON manifest")
    if not rows or not all(isinstance(row, dict) and {"id", "mesh"} <= row.keys() for row in rows):
        raise UsageError(f'{path} must be a list of rows that hold at least "id" and "mesh": complete it')
    for row in rows:
        fault = _row_fault(row)
        if fault:
            raise UsageError(f"{path}: {fault} in the row of id {row['id']!r}: correct it")
    return rows


def _row_fault(row: dict[str, Any]) -> str | None:
    """The first value of a row of the manifest that is of no use."""
    texts, digests, yaw = [key for key in TEXT_KEYS if key in row], row.get("sha256", {}), row.get("yaw_deg", 0)
    for key in texts:
        if not isinstance(row[key], str) or not row[key]:
            return f'"{key}" is no text'
    if not isinstance(digests, dict) or not all(isinstance(digest, str) for digest in digests.values()):
        return '"sha256" is no object of files and digests'
    return None if type(yaw) in (int, float) and abs(yaw) < LARGEST_ANGLE else '"yaw_deg" is no number'
