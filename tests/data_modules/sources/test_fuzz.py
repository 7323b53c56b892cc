"""Mutated files end in a picture or in one sentence: never in another error, a crash, a hang, or memory without end."""

import contextlib
import io
import json
import os
import random
import re
import resource
import signal
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.raycast import RayCaster, draw_cameras
from data_modules.sources.base import normalize
from data_modules.sources.colmap import ColmapSource
from data_modules.sources.meshes import MeshSource, read_mesh
from data_modules.sources.pictures import read_picture
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError
from tests.data_modules.sources import test_obj_pairs, test_ply_pairs
from tests.data_modules.sources.captures import see, write_colmap, write_transforms
from tests.data_modules.sources.gltf_files import Document, box, primitive

pytest.importorskip("embreex", reason="embreex has no wheel for this machine")

BINARY = ("binary_little_endian", "binary_big_endian")
COUNT = 400  # files of each format
BATCH = 50
SECONDS = 10
MEMORY = 2 << 30
NUMBERS = ("-1", "0", "1", "2", "7", "65535", "4294967296", "1e9", "1e400", "-0.5", "null", '"x"', "[]", "{}", "true")


# -- seeds: the file that is mutated, beside what it names ------------------------------------------------------------


def glb_seeds(folder: Path) -> list[Path]:
    """A textured box, and one of vertex colours, a skin and a target, instanced, sparse and transparent."""
    plain, rich = Document(), Document()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    texture = {"index": plain.image(pixels), "extensions": {"KHR_texture_transform": {"scale": [2, 2], "rotation": 1}}}
    plain.extend(False, "KHR_texture_transform")
    paint = {"pbrMetallicRoughness": {"baseColorTexture": texture}, "alphaMode": "MASK"}
    part = primitive(plain, box(), material=plain.add("materials", paint))
    plain.node(mesh=plain.mesh(part), rotation=[0, 0.6, 0, 0.8], scale=[1, 2, -1])
    glass = {"pbrMetallicRoughness": {"baseColorFactor": [1, 0.5, 0.2, 0.5]}, "alphaMode": "BLEND"}
    part = primitive(rich, box(), material=rich.add("materials", glass | {"emissiveFactor": [0.1, 0.2, 0.3]}))
    part["attributes"]["COLOR_0"] = rich.accessor(np.full((24, 4), 200), "u1", normalized=True)
    part["attributes"]["JOINTS_0"] = rich.accessor(np.tile([0, 1, 0, 0], (24, 1)), "u1")
    part["attributes"]["WEIGHTS_0"] = rich.accessor(np.tile([100, 155, 0, 0], (24, 1)), "u1", normalized=True)
    moved = {
        "count": 2,
        "indices": {"bufferView": rich.view(bytes([3, 9])), "componentType": 5121},
        "values": {"bufferView": rich.view(np.ones((2, 3), "<f4").tobytes())},
    }
    target = rich.add("accessors", {"componentType": 5126, "count": 24, "type": "VEC3", "sparse": moved})
    part["targets"] = [{"POSITION": target}]
    mesh = rich.mesh(part, weights=[0.5])
    joints = [rich.node(translation=[0, 0, 1]), rich.node(scale=[2, 1, 1])]
    inverse = rich.accessor(np.tile(np.eye(4), (2, 1, 1)).reshape(2, 16))
    rich.node(mesh=mesh, skin=rich.add("skins", {"joints": joints, "inverseBindMatrices": inverse}))
    places = {"attributes": {"TRANSLATION": rich.accessor([[0, 0, 0], [3, 0, 0]])}}
    rich.extend(True, "EXT_mesh_gpu_instancing")
    rich.node(mesh=mesh, extensions={"EXT_mesh_gpu_instancing": places})
    return [plain.write(folder / "plain.glb"), rich.write(folder / "rich.glb"), rich.write(folder / "rich.gltf")]


def obj_seeds(folder: Path) -> list[Path]:
    """A textured box of two libraries, and one of colours, normals, concave faces and lines that go on."""
    options = "-s 2 2 1 -o 0.1 0 0"
    rich = ["Kd 1 0.5 0.2", "d 0.5", f"map_Kd {options} tex.png", f"map_d -imfchan r {options} tex.png", "Ke 1"]
    test_obj_pairs.write(folder, box=test_obj_pairs.lines("newmtl m", *rich), other=test_obj_pairs.OTHER)
    (folder / "box.obj").write_bytes(test_obj_pairs.changed("box.mtl", "other.mtl box.mtl"))
    corners = "v 0 0 0 1 0 0\nv 2 0 0 0 1 0\nv 2 1 0 0 0 1\nv 1 1 0 1 1 1\nv 1 2 0 0 0 0\nv 0 2 0 1 1 0\n"
    (folder / "rich.obj").write_text(f"{corners}vn 0 0 1\nf 3//1 4//1 5//1 \\\n6//1 1//1 2//1\nf -6 -5 -4\nf 1 2 3 4\n")
    return [folder / "box.obj", folder / "box.mtl", folder / "rich.obj"]


def ply_seeds(folder: Path) -> list[Path]:
    """A text and two binary files: of textures, of colours of faces, and of strips."""
    corners, colors = (
        test_ply_pairs.vertices(*test_ply_pairs.RGB, rows=test_ply_pairs.BYTES),
        test_ply_pairs.SIDE_COLORS,
    )
    strips = ("tristrips", ["list int int vertex_indices"], [[[0, 1, 2, 3, -1, 4, 5, 6, 7]]])
    paint = test_ply_pairs.faces("list uchar float texcoord", rows=[[test_ply_pairs.UV.ravel().tolist()]] * 6)
    contents = {
        "text": test_ply_pairs.ply(corners, paint, comments=test_ply_pairs.TEXTURE),
        "little": test_ply_pairs.ply(corners, test_ply_pairs.faces(*test_ply_pairs.RGB, rows=colors), form=BINARY[0]),
        "big": test_ply_pairs.ply(corners, strips, form=BINARY[1]),
    }
    for name, content in contents.items():
        test_ply_pairs.write(folder, content).rename(folder / f"{name}.ply")
    return [folder / f"{name}.ply" for name in contents]


def png_seeds(folder: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    for name, image in (
        ("rgba", Image.fromarray(pixels)),
        ("deep", Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)),
        ("palette", Image.fromarray(pixels[..., :3]).convert("P")),
    ):
        image.save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in ("rgba", "deep", "palette")]


def json_seeds(folder: Path) -> list[Path]:
    (folder / "list").mkdir()
    (folder / "list" / "three.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    row = {"id": "a", "mesh": "three.obj", "up": "z", "yaw_deg": 30, "category": "car", "license": "CC0-1.0"}
    (folder / "list" / "list.json").write_text(json.dumps([row, {"id": "b", "mesh": "three.obj", "variant_of": "a"}]))
    write_transforms(folder / "a", see(8, 2), "opengl")
    return [folder / "list" / "list.json", folder / "a" / "transforms.json"]


def colmap_seeds(folder: Path) -> list[Path]:
    models = [write_colmap(folder / ending, see(8, 3), ending) / "sparse/0" for ending in ("bin", "txt")]
    return [file for model in models for file in sorted(model.iterdir())]


# -- what a file ends in ----------------------------------------------------------------------------------------------


def draw(path: Path) -> None:
    mesh, _ = normalize(read_mesh(path), "y")
    pose, pinhole = draw_cameras(1, 1.3, (30, 30), (20, 20), np.random.default_rng(0))
    RayCaster(mesh, 1).render(pose[0], pinhole[0], (8, 8))


def draw_named(path: Path) -> None:
    """Draws the OBJ file, whether it is the one that was changed or its library."""
    draw(path.with_suffix(".obj"))


def look_at(path: Path) -> None:
    read_picture(path, str(path))


def load(path: Path) -> None:
    source = MeshSource(path) if path.name == "list.json" else TransformsSource(path.parent)
    for scene in source.scenes():
        source.load(scene.id)


def load_model(path: Path) -> None:
    source = ColmapSource(path.parents[2])
    for scene in source.scenes():
        source.load(scene.id)


# -- mutations --------------------------------------------------------------------------------------------------------


def mutated(content: bytes, dice: random.Random) -> bytes:
    """One or two changes: bits, bytes cut out or doubled, the end cut off, or numbers of a text."""
    for _ in range(dice.choice((1, 1, 2))):
        kind = dice.choice(("bits", "bits", "bytes", "cut", "splice", "number", "number", "number", "number"))
        place = dice.randrange(max(len(content), 1))
        length = dice.randint(1, max(1, len(content) // 8))
        if kind == "bits":
            changed = bytearray(content)
            for spot in (dice.randrange(max(len(content), 1)) for _ in range(min(dice.randint(1, 4), len(content)))):
                changed[spot] ^= 1 << dice.randrange(8)
            content = bytes(changed)
        elif kind == "bytes":
            filler = bytes(dice.randrange(256) for _ in range(4)) if dice.random() < 0.5 else b"\xff" * 4
            content = content[:place] + filler + content[place + 4 :]
        elif kind == "cut":
            content = content[:place]
        elif kind == "splice":
            other = dice.randrange(max(len(content), 1))
            content = content[:place] + content[other : other + length] + content[place + dice.choice((0, length)) :]
        else:
            content = _with_another_number(content, dice)
    return content


def _with_another_number(content: bytes, dice: random.Random) -> bytes:
    """Changes a value of the document of a GLB, and the lengths that go with it, or a number of a text."""
    is_glb = content[:4] == b"glTF" and content[16:20] == b"JSON"
    end = 20 + int.from_bytes(content[12:16], "little") if is_glb else len(content)
    text = content[20:end] if is_glb else content
    spots = list(re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?", text))
    if not spots:
        return content
    spot = dice.choice(spots)
    number = dice.choice(NUMBERS).encode() if dice.random() < 0.7 else str(dice.randint(0, 40)).encode()
    text = text[: spot.start()] + number + text[spot.end() :]
    if not is_glb:
        return text
    text += b" " * (-len(text) % 4)
    body = content[8:12] and text + content[end:]
    sizes = (len(body) + 20).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    return content[:8] + sizes + b"JSON" + body


# -- the engine -------------------------------------------------------------------------------------------------------


def ends(path: Path, read: Callable[[Path], None]) -> str:
    """How a file ends: as a ``picture`` or a ``sentence``, else what is wrong with that."""
    said, end = io.StringIO(), "picture"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("error", RuntimeWarning)
            read(path)
    except UsageError as error:
        is_sentence = str(error).isprintable() and len(str(error)) < 600
        end = "sentence" if is_sentence else f"no sentence: {error!r}"
    except BaseException:
        end = traceback.format_exc(limit=-4)
    return said.getvalue() or end


def run_batch(seeds: list[Path], read: Callable[[Path], None], numbers: range, report: Path) -> int:
    """Tries files in a child that may take only so much memory and time, a line of the report each.

    Returns:
        The status that the system gives the child, 0 for none that went wrong.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        used = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) << 10
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        contents = [seed.read_bytes() for seed in seeds]
        with report.open("a", buffering=1) as lines:
            for number in numbers:
                dice = random.Random(number)
                row = dice.randrange(len(seeds))
                seeds[row].write_bytes(mutated(contents[row], dice))
                lines.write(f"file {number}, made of {seeds[row].name}, ended as ")
                lines.flush()
                signal.alarm(SECONDS)
                lines.write(f"{ends(seeds[row], read)}\n")
                signal.alarm(0)
                seeds[row].write_bytes(contents[row])
        os._exit(0)
    finally:
        os._exit(2)


FORMATS: dict[str, tuple[Callable[[Path], list[Path]], Callable[[Path], None]]] = {
    "glb": (glb_seeds, draw),
    "obj": (obj_seeds, draw_named),
    "ply": (ply_seeds, draw),
    "png": (png_seeds, look_at),
    "json": (json_seeds, load),
    "colmap": (colmap_seeds, load_model),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_seeds_are_read(tmp_path, kind):
    make, read = FORMATS[kind]
    for seed in make(tmp_path):
        read(seed)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="limits of memory are those of Linux")
@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_end_in_a_picture_or_one_sentence(tmp_path, kind):
    make, read = FORMATS[kind]
    (tmp_path / "files").mkdir()
    seeds, report = make(tmp_path / "files"), tmp_path / "report.txt"
    for first in range(0, COUNT, BATCH):
        status = run_batch(seeds, read, range(first, first + BATCH), report)
        assert status == 0, report.read_text().splitlines()[-1]
    lines = report.read_text().splitlines()
    wrong = [line for line in lines if not line.endswith((" as picture", " as sentence"))]
    assert not wrong, "\n".join(wrong)
    pictures = sum(line.endswith("picture") for line in lines)
    assert len(lines) == COUNT
    assert COUNT / 20 < pictures < 19 * COUNT / 20, "files that all end alike would show nothing"
