"""Files of strangers that lie, lead elsewhere or have no end: refused before they cost time or memory."""

import base64
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import trimesh
from PIL import Image

from data_modules import layout
from data_modules.layout import PackIndex, Shard, read_source_records
from data_modules.layout.index_document import json_sha256
from data_modules.packing.pack import write_pack
from data_modules.packing.scene_writer import RenderSettings
from data_modules.sources.base import SceneSource
from data_modules.sources.basel import BaselSource
from data_modules.sources.eg3d import Eg3dSource
from data_modules.sources.meshes import MeshSource
from data_modules.sources.shapenet import ShapeNetSource
from data_modules.sources.srn import SrnSource
from data_modules.sources.transforms import TransformsSource
from tests.data_modules.sources.captures import see, write_eg3d, write_srn, write_transforms
from tests.data_modules.sources.test_basel import basel_file
from tests.hostile import check_refusal

DEEP = "[" * 100_000
TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
MATERIAL = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
MILLION = 10**6
NOTHING: dict[str, Any] = {"meshes": [], "nodes": [], "accessors": [], "bufferViews": [], "buffers": []}


def load_all(source: SceneSource) -> None:
    for scene in source.scenes():
        source.load(scene.id)


def triangle(**changes: Any) -> dict[str, Any]:
    """A glTF document of one triangle, and further keys or other values of it."""
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
    } | changes


def glb(document: dict[str, Any], binary: bytes = TRIANGLE, more_bytes: int = 0, chunk_bytes: int = 0) -> bytes:
    """A GLB file, whose header and whose binary chunk may claim more bytes than there are."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = (
        struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(binary) + chunk_bytes, b"BIN\0")
        + binary
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body) + more_bytes) + body


def png(width: int, height: int, is_whole: bool = True) -> bytes:
    """A black picture of one bit a pixel, or its header alone."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = zlib.compress(bytes(height * (1 + width // 8))) if is_whole else b""
    return head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def sparse(path: Path, num_bytes: int, head: bytes = b"") -> None:
    """A file of zeros that takes no room on the disk."""
    path.write_bytes(head)
    os.truncate(path, num_bytes)


def textured(image: dict[str, Any]) -> dict[str, Any]:
    document = triangle(materials=[MATERIAL], textures=[{"source": 0}], images=[image])
    document["meshes"][0]["primitives"][0]["material"] = 0
    return document


def _as_uri(content: bytes) -> str:
    return f"data:application/octet-stream;base64,{base64.b64encode(content).decode()}"


# -- glTF -------------------------------------------------------------------------------------------------------------

IN_TEXT = {"buffers": [{"byteLength": 36, "uri": _as_uri(TRIANGLE)}]}
FLOATS = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
CHAIN: list[dict[str, Any]] = [{"children": [node + 1]} for node in range(20_000)] + [{"mesh": 0}]
GLTF: dict[str, Callable[[], bytes]] = {
    "chain.glb": lambda: glb(triangle(nodes=CHAIN)),
    "steps.glb": lambda: glb(triangle(nodes=[*CHAIN[:500], {"children": [*range(501, 5000)]}, *[{"mesh": 0}] * 4499])),
    "circle.glb": lambda: glb(triangle(nodes=[{"mesh": 0}, {"children": [2]}, {"children": [1]}])),
    "itself.glb": lambda: glb(triangle(nodes=[{"mesh": 0, "children": [0]}])),
    "parents.glb": lambda: glb(triangle(nodes=[{"children": [1, 1]}, {"mesh": 0}])),
    "no_node.glb": lambda: glb(triangle(nodes=[{"children": [7]}])),
    "count.glb": lambda: glb(triangle(accessors=[FLOATS | {"count": 10**9}])),
    "no_view.glb": lambda: glb(triangle(accessors=[{"componentType": 5126, "count": 10**9, "type": "MAT4"}])),
    "infinite.glb": lambda: glb(triangle(accessors=[FLOATS | {"count": float("inf")}])),
    "view.glb": lambda: glb(triangle(bufferViews=[{"buffer": 0, "byteLength": 2**40}])),
    "views.glb": lambda: glb(
        triangle(bufferViews=[{"buffer": 0, "byteLength": MILLION}] * 1000, buffers=[{"byteLength": MILLION}]),
        bytes(MILLION),
    ),
    "buffer.glb": lambda: glb(triangle(buffers=[{"byteLength": 2**32}])),
    "header.glb": lambda: glb(triangle(), more_bytes=2**31),
    "chunk.glb": lambda: glb(triangle(), chunk_bytes=2**31),
    "chunks.glb": lambda: glb(triangle(), more_bytes=8 * MILLION) + bytes(8 * MILLION),
    "instances.glb": lambda: glb(
        triangle(
            scenes=[{"nodes": [*range(10_000)]}], nodes=[{"mesh": 0}] * 10_000, buffers=[{"byteLength": 36_000}],
            accessors=[FLOATS | {"count": 3000}],
            bufferViews=[{"buffer": 0, "byteLength": 36_000}],
        ),
        bytes(36_000),
    ),
    "data.gltf": lambda: json.dumps(triangle(buffers=[{"byteLength": 2**32, "uri": "data:;base64,AAAA"}])).encode(),
    "twice.gltf": lambda: json.dumps(triangle(buffers=[{"byteLength": 1, "uri": "twice.gltf"}] * 2)).encode(),
    "deep.gltf": lambda: b'{"asset":' + DEEP.encode(),
    "lists.gltf": lambda: b'{"extras": [' + b"[]," * (10 * MILLION) + b"[]]}",
    "huge_texture.glb": lambda: glb(textured({"uri": _as_uri(png(30_000, 30_000, False))})),
    "large_texture.gltf": lambda: json.dumps(textured({"uri": _as_uri(png(9000, 9000, False))}) | IN_TEXT).encode(),
    "torn_texture.gltf": lambda: json.dumps(
        textured({"uri": _as_uri(png(64, 64)[:-40])}) | IN_TEXT
    ).encode(),
    "no_picture.gltf": lambda: json.dumps(textured({"uri": _as_uri(b"no picture")}) | IN_TEXT).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", GLTF)
def test_gltf_that_claims_what_cannot_be(tmp_path, name):
    content = GLTF[name]()
    (tmp_path / name).write_bytes(content)
    check_refusal(lambda: load_all(MeshSource(tmp_path)), name)


@pytest.mark.parametrize("torn", ["header", "pixels", None])
def test_a_texture_in_a_glb_is_used_or_the_scene_is_left_out(tmp_path, torn):
    box, red = trimesh.creation.box(), Image.new("RGB", (16, 16), (255, 0, 0))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=red)
    box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), material=material)
    content = trimesh.Scene(box).export(file_type="glb")
    place = content.index({"header": b"IHDR", "pixels": b"IDAT", None: b"glTF"}[torn]) + 4
    (tmp_path / "box.glb").write_bytes(content[:place] + bytes(8) + content[place + 8 :] if torn else content)
    if torn:
        check_refusal(lambda: load_all(MeshSource(tmp_path)), "box.glb")
    else:
        texture = MeshSource(tmp_path).load("box")[0].materials[0].texture
        assert texture is not None
        assert texture[0, 0].tolist() == [255, 0, 0]


# -- files that models name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gltf", "obj", "mtl", "shapenet", "link", "ply"])
def test_what_a_model_names_lies_in_its_folder(tmp_path, kind):
    folder = tmp_path / "models" / "02958343" / "a"
    folder.mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png(8, 8))
    (tmp_path / "secret.mtl").write_text("newmtl a\n")
    name = "../../../secret.png"
    if kind == "link":
        (folder / "link.png").symlink_to(tmp_path / "secret.png")
        name = "link.png"
    (folder / "a.mtl").write_text(f"newmtl a\nmap_Kd {name}\n")
    if kind == "gltf":
        (folder / "model.gltf").write_text(json.dumps(triangle(images=[{"uri": "..%2F../../secret.png"}], **NOTHING)))
    elif kind == "ply":
        (folder / "model.ply").write_text(
            PLY.format("ascii", 3, 1)
            .replace("element vertex", f"comment TextureFile {name}\nelement vertex")
            .replace("float z\n", "float z\nproperty float s\nproperty float t\n")
            + "0 0 0 0 0\n1 0 0 1 0\n0 1 0 0 1\n3 0 1 2\n"
        )
    else:
        library = "../../../secret.mtl" if kind == "mtl" else "a.mtl"
        (folder / "model.obj").write_text(f"mtllib {library}\n{OBJ}usemtl a\nf 1 2 3\n")
    source = ShapeNetSource(tmp_path / "models") if kind == "shapenet" else MeshSource(tmp_path / "models")
    named_by = {"gltf": "model.gltf", "mtl": "model.obj", "ply": "model.ply"}.get(kind, "a.mtl")
    for words in (named_by, "outside of its folder"):
        check_refusal(lambda: load_all(source), words)


def test_textures_beside_the_model_elsewhere_in_the_folder_and_behind_the_links_of_a_store_are_read(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "set" / "a").mkdir(parents=True)
    for name, content in (("1", f"mtllib a.mtl\n{OBJ}usemtl a\nf 1 2 3\n".encode()), ("2", png(8, 8))):
        (store / name).write_bytes(content)
    (tmp_path / "set" / "a" / "a.obj").symlink_to(store / "1")
    (tmp_path / "set" / "a" / "a.png").symlink_to(store / "2")
    (tmp_path / "set" / "a" / "a.mtl").symlink_to(store / "3")
    (store / "3").write_text("newmtl a\nmap_Kd a.png\n")
    assert MeshSource(tmp_path / "set").load("a/a")[0].materials[1].texture is not None
    (tmp_path / "set" / "picture.png").write_bytes(png(8, 8))
    (store / "3").write_text("newmtl a\nmap_Kd ../picture.png\n")
    assert MeshSource(tmp_path / "set").load("a/a")[0].materials[1].texture is not None


def test_hostile_scenes_are_left_out_and_the_others_packed(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("chain.glb", "circle.glb", "no_picture.gltf"):
        (tmp_path / "in" / name).write_bytes(GLTF[name]())
    (tmp_path / "in" / "vertices.ply").write_text(TEXTS["vertices.ply"])
    (tmp_path / "in" / "sound.obj").write_text(f"{OBJ}f 1 2 3\n")
    render = RenderSettings(2, (-180, 180), (0, 80), resolution=16, samples_per_pixel=1)
    index = write_pack(MeshSource(tmp_path / "in"), tmp_path / "out", render)
    assert index.scene_ids == ("sound",)
    assert [scene["id"] for scene in index.left_out] == ["chain", "circle", "no_picture", "vertices"]
    assert all(f"in/{scene['id']}." in scene["reason"] for scene in index.left_out)


# -- OBJ and PLY ------------------------------------------------------------------------------------------------------

PLY = (
    "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
    "element face {}\nproperty list uchar int vertex_indices\nend_header\n"
)
TEXTS = {
    "index.obj": f"{OBJ}f 1 2 999999999999999999999\n",
    "digits.obj": f"{OBJ}f 1 2 {'9' * 6000}\n",
    "negative.obj": f"{OBJ}f 1 2 -99999999999\n",
    "short.obj": "v 0 0\nv 1\nv 0 1 0\nf 1 2 3\n",
    "nan.obj": "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "zeros.obj": "\0" * 1000,
    "vertices.ply": PLY.format("binary_little_endian", 10**9, 0),
    "faces.ply": PLY.format("binary_little_endian", 0, 10**9),
    "text.ply": PLY.format("ascii", 10**9, 1),
    "negative.ply": PLY.format("ascii", -5, 1),
    "endless.ply": PLY.format("ascii", 3, 1).replace("end_header", "comment"),
    "empty.ply": PLY.format("ascii", 10**18, 10**18).replace("property", "comment"),
    "list.ply": PLY.format("binary_little_endian", 0, 1).replace("uchar", "int") + "\x7f\x7f\x7f\x7f",
    "list.json": DEEP,
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_meshes_that_claim_what_cannot_be(tmp_path, name):
    (tmp_path / name).write_bytes(TEXTS[name].encode())
    path = tmp_path / name if name.endswith(".json") else tmp_path
    check_refusal(lambda: load_all(MeshSource(path)), name)


@pytest.mark.parametrize("name", ["sparse.obj", "sparse.gltf", "sparse.glb", "sparse.ply"])
def test_meshes_of_a_hundred_gigabytes_of_nothing(tmp_path, name):
    sparse(tmp_path / name, 10**11)
    check_refusal(lambda: load_all(MeshSource(tmp_path)), name)


def test_a_buffer_of_a_hundred_gigabytes_of_nothing(tmp_path):
    sparse(tmp_path / "a.bin", 10**11)
    (tmp_path / "a.gltf").write_text(json.dumps(triangle(buffers=[{"byteLength": 36, "uri": "a.bin"}])))
    check_refusal(lambda: load_all(MeshSource(tmp_path)), "a.gltf")


def test_many_small_files_of_large_textures(tmp_path):
    materials = [f"newmtl a{number}\nmap_Kd {number}.png\n" for number in range(16)]
    for number in range(16):
        (tmp_path / f"{number}.png").write_bytes(png(4096, 4096))
    (tmp_path / "a.mtl").write_text("".join(materials))
    (tmp_path / "a.obj").write_text(
        f"mtllib a.mtl\n{OBJ}" + "".join(f"usemtl a{number}\nf 1 2 3\n" for number in range(16))
    )
    check_refusal(lambda: load_all(MeshSource(tmp_path)), ".png")


def test_many_materials_share_a_texture(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2048, 2048))
    (tmp_path / "a.mtl").write_text("".join(f"newmtl a{number}\nmap_Kd a.png\n" for number in range(1000)))
    (tmp_path / "a.obj").write_text("mtllib a.mtl\n" * 1000 + f"{OBJ}usemtl a7\nf 1 2 3\n")
    mesh, _ = MeshSource(tmp_path).load("a")
    assert mesh.materials[1].texture.shape == (2048, 2048, 3)


# -- posed images -----------------------------------------------------------------------------------------------------

JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc0000b08ffdcffdc01011100ffd9")  # 65500 x 65500 of grey
PICTURES = {
    "png": png(40_000, 40_000, False),
    "whole png": png(9000, 9000),
    "jpeg": JPEG,
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
}


@pytest.mark.parametrize("kind", [*PICTURES, "pipe", "device"])
def test_images_that_claim_what_cannot_be(tmp_path, kind):
    write_transforms(tmp_path, see(16, 2), "opengl")
    image = tmp_path / "images" / "transforms_000.png"
    image.unlink()
    if kind in PICTURES:
        image.write_bytes(PICTURES[kind])
    elif kind == "pipe":
        os.mkfifo(image)
    else:
        image.symlink_to("/dev/zero")
    check_refusal(lambda: load_all(TransformsSource(tmp_path)), "transforms_000.png")


@pytest.mark.parametrize("kind", ["deep", "device", "sparse", "numbers"])
def test_transforms_that_have_no_end(tmp_path, kind):
    file = tmp_path / "transforms.json"
    if kind == "deep":
        file.write_text(f'{{"frames": {DEEP}')
    elif kind == "numbers":
        file.write_text('{"frames": [' + "{}," * (5 * MILLION) + "{}]}")
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        sparse(file, 10**11)
    check_refusal(lambda: load_all(TransformsSource(tmp_path)), "transforms.json")


@pytest.mark.parametrize("name", ["intrinsics.txt", "pose/000000.txt"])
@pytest.mark.parametrize("kind", ["device", "sparse", "pipe"])
def test_srn_texts_that_have_no_end(tmp_path, name, kind):
    write_srn(tmp_path / "a", see(16, 2), "opencv")
    file = tmp_path / "a" / name
    file.unlink()
    if kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        sparse(file, 10**11)
    check_refusal(lambda: load_all(SrnSource(tmp_path)), name)


@pytest.mark.parametrize("kind", ["labels", "image", "deep", "folder", "lists"])
def test_archives_that_unpack_to_more_than_memory_holds(tmp_path, kind):
    write_eg3d(tmp_path / "a", see(16, 2), "opencv")
    labels = json.loads((tmp_path / "a" / "dataset.json").read_text())["labels"]
    path, name = tmp_path / "a.zip", "dataset.json"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if kind == "labels":
            archive.writestr("dataset.json", bytes(300 << 20))
        elif kind == "lists":
            archive.writestr("dataset.json", '{"labels": [' + "[]," * (20 * MILLION) + "[]]}")
        elif kind == "deep":
            archive.writestr("dataset.json", f'{{"labels": {DEEP}')
        else:
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
            name = labels[0][0]
            archive.writestr(name, bytes(300 << 20))
    if kind == "folder":
        path, name = tmp_path / "a", "dataset.json"
        sparse(path / name, 10**11)
    check_refusal(lambda: load_all(Eg3dSource(path)), name)


# -- HDF5 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["shape", "zeros", "external link", "soft link", "values elsewhere", "text", "chunk", "group", "cells"],
)
def test_face_models_that_claim_what_cannot_be(tmp_path, kind):
    path = basel_file(tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        group, name = file["shape/model"], "pcaBasis"
        del group[name]
        if kind == "shape":
            group.create_dataset(name, (3 * MILLION, 10_000), "f4", chunks=(1000, 100), compression="gzip")
        elif kind == "zeros":
            group.create_dataset(name, data=np.zeros((4 * MILLION, 5), "f4"), compression="gzip", chunks=(MILLION, 5))
        elif kind == "external link":
            group[name] = h5py.ExternalLink("/dev/zero", "/")
        elif kind == "soft link":
            group[name] = h5py.SoftLink(f"/shape/model/{name}")
        elif kind == "values elsewhere":
            group.create_dataset(name, (15, 2), "f4", external=[("/etc/passwd", 0, 120)])
        elif kind == "text":
            group.create_dataset(name, data=np.array([["a"] * 2] * 15, dtype=object), dtype=h5py.string_dtype())
        elif kind == "chunk":
            group.create_dataset(name, (15, 2), "f4", maxshape=(None, 2), chunks=(10**8, 2))
        elif kind == "group":
            group.create_group(name)
        else:
            group[name] = np.zeros((15, 2), "f4")
            del file["shape/representer/cells"]
            file.create_dataset("shape/representer/cells", (3, 10**12), "i8", chunks=(3, 1000))
    check_refusal(lambda: load_all(BaselSource(path, 1)), "model.h5")


@pytest.mark.parametrize("kind", ["views", "records", "deep records"])
def test_shards_that_claim_what_cannot_be(tmp_path, kind):
    path, views = tmp_path / "pack-00000.h5", MILLION if kind == "views" else 1
    with h5py.File(path, "w") as file:
        file.create_dataset(layout.VIEWS, (views, 64, 64, 3), "u1", chunks=(1, 64, 64, 3), compression="gzip")
        for name, shape in ((layout.CAMERA_TO_WORLD, (4, 4)), (layout.INTRINSICS, (4,)), (layout.NEAR_FAR, (2,))):
            file.create_dataset(name, (views, *shape), "f4", chunks=(1, *shape))
        if kind == "records":
            file.create_dataset(layout.SOURCE, (1,), "S2000000000", chunks=(1,))
        else:
            file[layout.SOURCE] = np.array([DEEP.encode()])
    shard = Shard(path, 0, 1, 0, views, path.stat().st_size, "", False)
    check_refusal(lambda: read_source_records(shard), path.name)


@pytest.mark.parametrize("kind", ["deep", "nearly deep", "pixels", "device"])
def test_indices_of_packs_that_claim_what_cannot_be(tmp_path, kind):
    file = tmp_path / layout.INDEX_FILE
    document = {"schema_version": 3, "image_size": [60_000, 60_000], "scene_radius": 0.5, "split": "first", "jobs": []}
    document |= {"left_out": [], "shards": []}
    if kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "pixels":
        file.write_text(json.dumps(document | {"sha256": json_sha256(document)}))
    else:
        depth = 100_000 if kind == "deep" else 940
        file.write_text(f'{{"schema_version": 3, "jobs": {"[" * depth}{"]" * depth}}}')
    check_refusal(lambda: PackIndex.open(tmp_path), layout.INDEX_FILE)
