"""Draws the pictures of this folder from procedural cars and a procedural head: ``python docs/data/draw.py``.

Every strip of views is a contact sheet that ``scaled-ig check`` drew, of a pack that ``scaled-ig pack`` made from files
in the layout of its page. The cars stand in a folder that is removed at the end.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.patches import FancyArrowPatch
from PIL import Image

from data_modules.raycast import FOCAL, RayCaster, draw_cameras
from data_modules.sources.base import Mesh, normalize
from data_modules.sources.basel import read_face_model
from data_modules.sources.obj import read_obj
from scaled_ig.commands.check import check
from scaled_ig.commands.pack import pack
from scaled_ig.commands.synthesize import synthesize

HERE = Path(__file__).parent
INK, SOFT, RULE, BALL = "#1b1f24", "#57606a", "#c8cdd2", "#8a929b"
RED, GREEN, BLUE, WRONG = "#c62b2b", "#2a8a3a", "#2a55c8", "#c2255c"
AXES = (("X", RED), ("Y", GREEN), ("Z", BLUE))
OPENCV = (("x right", RED), ("y down", GREEN), ("z forward", BLUE))
OPENGL = (("x right", RED), ("y up", GREEN), ("z backward", BLUE))
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # which matplotlib brings along
    "font.size": 10,
    "text.color": INK,
}
DPI = 100
SIDE = 160  # of a cell of the contact sheet, so that its views are shown as they are
VIEWS = 21
CAR = "car_000_00000"
LENS = np.array([FOCAL, FOCAL, 0.5, 0.5], np.float32)
HALO = [patheffects.withStroke(linewidth=3, foreground="white")]


def main() -> None:
    """Draws everything."""
    plt.rcParams.update(STYLE)
    with TemporaryDirectory(prefix="scaled-ig-") as folder, redirect_stdout(sys.stderr):
        work = Path(folder)
        synthesize("cars", out=str(work / "shapenet"), scenes=1)
        synthesize("faces", out=str(work / "faces"))
        model = work / f"shapenet/02958343/{CAR}/models/model_normalized.obj"
        in_file = read_obj(model)
        car = normalize(in_file, "y", 180.0)[0]
        draw_world(car)
        draw_camera_axes(car)
        captures = write_captures(work, car)
        draw_mesh_sources(work, in_file)
        draw_posed_sources(work, captures)
        draw_mistakes(work, captures["transforms"], captures["inverted"])


# -- projecting ------------------------------------------------------------------------------------------------------


def camera(azimuth: float, elevation: float, distance: float = 1.3) -> np.ndarray:
    """Camera-to-world matrix, OpenCV axes, of a camera that looks at the origin."""
    generator = np.random.default_rng(0)
    return draw_cameras(1, distance, (azimuth, azimuth), (elevation, elevation), generator)[0][0].astype(float)


class View:
    """An image of a mesh on axes in pixels, onto which points of the world are drawn."""

    def __init__(
        self, axes: Any, mesh: Mesh | None, pose: np.ndarray, lens: Any, size: tuple[int, int], sharp: int = 1
    ) -> None:
        self.axes, self.pose, self.lens, self.size = axes, pose, np.asarray(lens, float), size
        height, width = size
        if mesh is not None:
            caster = RayCaster(mesh, 16)
            large = (height * sharp, width * sharp)
            image, _ = caster.render(pose.astype(np.float32), self.lens.astype(np.float32), large)
            axes.imshow(image, extent=(0, width, height, 0), interpolation="lanczos")
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        axes.axis("off")

    def __call__(self, points: Any) -> np.ndarray:
        """Pixels [n, 2] of points [n, 3]."""
        seen = (np.atleast_2d(points) - self.pose[:3, 3]) @ self.pose[:3, :3]
        height, width = self.size
        return (seen[:, :2] / seen[:, 2:] * self.lens[:2] + self.lens[2:]) * (width, height)

    def line(self, points: Any, color: str, width: float = 1.2, **style: Any) -> None:
        self.axes.plot(*self(points).T, color=color, linewidth=width, solid_capstyle="round", **style)

    def arrow(self, start: Any, end: Any, color: str, text: str = "", push: Any = 1.12, size: float = 12) -> None:
        """An arrow, and a text: ``push`` times as far along it, or so many pixels right and below of its tip."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        first, last = self([start, end])
        self.flat_arrow(first, last, color)
        if text:
            place = last + push if isinstance(push, tuple) else self(start + push * (end - start))[0]
            self.text(place, text, color, size=size, weight="bold")

    def flat_arrow(self, start: Any, end: Any, color: str) -> None:
        """An arrow between pixels."""
        shape: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}
        patch = FancyArrowPatch(start, end, color=color, linewidth=2, zorder=5, clip_on=False, **shape)
        self.axes.add_patch(patch)

    def text(self, place: Any, text: str, color: str = INK, **style: Any) -> None:
        style = {"ha": "center", "va": "center", "zorder": 6, "path_effects": HALO} | style
        self.axes.text(*place, text, color=color, **style)

    def camera(
        self, pose: np.ndarray, labels: Any, depth: float, length: float, push: Any, is_opengl: bool = False
    ) -> None:
        """A camera with OpenCV pose: its frustum, and axes of the convention that ``labels`` name."""
        flip = -1.0 if is_opengl else 1.0
        half = depth * 0.5 / FOCAL
        corners = np.array([[-half, -half, depth], [half, -half, depth], [half, half, depth], [-half, half, depth]])
        roof = np.array([[-0.35 * half, -1.12 * half, depth], [0.35 * half, -1.12 * half, depth],
                         [0.0, -1.5 * half, depth]])  # fmt: skip
        corners, roof = (points @ pose[:3, :3].T + pose[:3, 3] for points in (corners, roof))
        self.axes.fill(*self(corners).T, facecolor="#eef2f6", edgecolor="none", alpha=0.55)
        self.axes.fill(*self(roof).T, facecolor=SOFT, edgecolor="none")
        self.line([*corners, corners[0]], SOFT)
        for corner in corners:
            self.line([pose[:3, 3], corner], SOFT)
        for axis, (text, color) in enumerate(labels):
            sign = 1.0 if axis == 0 else flip
            end = pose[:3, 3] + sign * length * pose[:3, axis]
            self.arrow(pose[:3, 3], end, color, text, push[axis], size=11)


def panel(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes at a place in pixels from below."""
    full_width, full_height = figure.get_size_inches() * DPI
    return figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))


def save(figure: Any, name: str) -> None:
    """Writes a picture of at most 256 colours, which keeps it small."""
    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    plt.close(figure)


def canvas(width: int, height: int, scale: int = 1) -> Any:
    """A white figure of a size in units; a unit is ``scale`` pixels."""
    return plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI * scale)


# -- conventions -----------------------------------------------------------------------------------------------------


def draw_world(car: Mesh) -> None:
    """The world with a camera, and what that camera sees."""
    figure = canvas(1000, 400, 2)
    view = View(panel(figure, 0, 0, 640, 400), car, camera(24, 20, 4.6), (1.45, 2.32, 0.62, 0.56), (400, 640), 2)
    turn = np.linspace(0, 2 * np.pi, 181)
    zero = np.zeros_like(turn)
    outward = view.pose[:3, 2]
    aside, upwards = view.pose[:3, 0], view.pose[:3, 1]
    distance = np.linalg.norm(view.pose[:3, 3])
    # The outline of a ball is a circle a little nearer than its centre, and a little smaller.
    middle, radius = -outward * 0.25 / distance, 0.5 * np.sqrt(1 - (0.5 / distance) ** 2)
    outline = middle + radius * (np.cos(turn)[:, None] * aside + np.sin(turn)[:, None] * upwards)
    view.axes.fill(*view(outline).T, facecolor="#8a929b", alpha=0.10, edgecolor="none")
    view.line(outline, BALL, 1.3)
    view.line(0.5 * np.stack([np.cos(turn), np.sin(turn), zero], 1), BALL, 0.9, linestyle=(0, (3, 3)))
    for (name, color), axis in zip(AXES, np.eye(3), strict=True):
        view.arrow(np.zeros(3), 0.78 * axis, color, f"+{name}", 1.1, 14)
    view.arrow([0, -0.5, 0], [0, -0.8, 0], SOFT)
    view.text(view([0, -0.8, 0])[0] + (-30, 14), "front: −Y", SOFT, size=12)
    slope = np.radians(52)
    rim = middle + radius * (np.cos(slope) * aside + np.sin(slope) * upwards)
    view.text(view(rim)[0] + (8, 14), "ball of radius 0.5", SOFT, size=11, ha="left")
    own = camera(-66, 30)
    view.line([own[:3, 3], np.zeros(3)], SOFT, 1.0, linestyle=(0, (1, 2.5)))
    view.text(view(0.5 * own[:3, 3])[0] + (8, -12), "1.3", SOFT, size=11)
    view.camera(own, OPENCV, 0.30, 0.34, ((-38, -2), (0, 13), (46, -9)))
    view.text(view(own[:3, 3])[0] + (8, -46), "camera-to-world,\nOpenCV axes", INK, size=11)

    small = panel(figure, 690, 70, 260, 260)
    seen = View(small, car, own, LENS, (260, 260), 2)
    small.plot([0, 260, 260, 0, 0], [0, 0, 260, 260, 0], color=RULE, linewidth=1.2, clip_on=False)
    for (name, color), axis in zip(AXES, np.eye(3), strict=True):
        seen.arrow(np.zeros(3), 0.5 * axis, color, name, 1.12, 13)
    for end, color, text, place in (((90, 0), RED, "u", (104, 0)), ((0, 90), GREEN, "v", (0, 106))):
        seen.flat_arrow((0, 0), end, color)
        seen.text(place, text, color, size=13, weight="bold", clip_on=False)
    for place in ((130, 130), (178, 238)):
        small.plot(*place, marker="o", color="white", markeredgecolor=INK, markersize=6, zorder=8)
    seen.text((190, 238), "(cx, cy)", size=11, ha="left")
    seen.text((130, -44), "what this camera sees", size=12.5, clip_on=False)
    seen.text((130, -22), "W × H pixels, the first centre at (0.5, 0.5)", SOFT, size=11, clip_on=False)
    seen.text((130, 280), "intrinsics: fx / W, fy / H, cx / W, cy / H", INK, size=12, clip_on=False)
    seen.text((130, 301), "of rendered views: 1.0254, 1.0254, 0.5, 0.5", SOFT, size=11, clip_on=False)
    save(figure, "world.png")


def draw_camera_axes(car: Mesh) -> None:
    """The same camera with OpenCV's and with OpenGL's axes."""
    figure = canvas(1000, 290, 2)
    own = camera(-90, 8, 1.3)
    for left, name, labels, push, note in (
        (0, "opencv", OPENCV, ((38, 10), (0, 13), (46, 1)), "x right, y down, z forward: packs, COLMAP, SRN, EG3D"),
        (500, "opengl", OPENGL, ((38, 10), (0, -12), (46, 16)), "x right, y up, z backward: nerfstudio, Blender"),
    ):
        middle, level = (0.64, 0.46) if name == "opencv" else (0.72, 0.56)
        lens = (1.5, 1.5 * 500 / 230, middle, level)
        view = View(panel(figure, left, 0, 500, 230), car, camera(-24, 24, 4.0), lens, (230, 500), 2)
        view.camera(own, labels, 0.34, 0.40, push, name == "opengl")
        view.text((250, -40), name, INK, size=15, weight="bold", clip_on=False)
        view.text((250, -16), note, SOFT, size=11, clip_on=False)
    figure.add_artist(plt.Line2D([0.5, 0.5], [0.05, 0.95], color=RULE, linewidth=1))
    save(figure, "camera_axes.png")


# -- sources ---------------------------------------------------------------------------------------------------------


def strip(work: Path, name: str, source: Any, path: Path, **options: Any) -> tuple[np.ndarray, int]:
    """The contact sheet of a pack of one scene, and what ``scaled-ig check`` ended with."""
    out = work / "packs" / name
    pack(source, str(path), out=str(out), processes=1, **options)
    status = check(str(out))
    return np.asarray(Image.open(out / "contact_sheet.png")), status


def show(figure: Any, sheet: np.ndarray, left: int, bottom: int) -> None:
    """A contact sheet pixel by pixel."""
    height, width = sheet.shape[:2]
    axes = panel(figure, left, bottom, width, height)
    axes.imshow(sheet, interpolation="nearest")
    axes.axis("off")


def source_picture(name: str, title: str, sheet: np.ndarray, draw: Callable[[Any], None]) -> None:
    """What the file has at the left, what ``scaled-ig check`` shows of it at the right."""
    figure = canvas(1200, 216)
    draw(panel(figure, 0, 0, 190, 186))
    figure.text(95 / 1200, 199 / 216, title, ha="center", va="center", size=10, color=SOFT)
    figure.text(
        (225 + 480) / 1200, 199 / 216, "the contact sheet of scaled-ig check: axes of the world", ha="center",
        va="center", size=10, color=SOFT,
    )  # fmt: skip
    show(figure, sheet, 232, 6)
    line = plt.Line2D([212 / 1200] * 2, [0.05, 0.95], color=RULE, linewidth=1)
    figure.add_artist(line)
    save(figure, f"{name}.png")


def mesh_panel(mesh: Mesh, pose: np.ndarray, up: tuple[str, str]) -> Callable[[Any], None]:
    """A mesh with the axes of its file; ``pose`` is given in those axes."""

    def draw(axes: Any) -> None:
        view = View(axes, mesh, pose, (1.0254, 1.0474, 0.5, 0.53), (186, 190), 2)
        for (name, color), axis in zip(AXES, np.eye(3), strict=True):
            view.arrow(np.zeros(3), 0.46 * axis, color, name.lower(), 1.16, 12)
        view.text((95, 178), f"up {up[0]}, front {up[1]}", INK, size=10)

    return draw


def camera_panel(convention: str) -> Callable[[Any], None]:
    """A camera with the axes of the format."""
    labels = OPENCV if convention == "opencv" else OPENGL

    def draw(axes: Any) -> None:
        middle, level = (0.40, 0.34) if convention == "opencv" else (0.52, 0.50)
        view = View(axes, None, camera(-26, 22, 3.0), (3.1, 3.17, middle, level), (186, 190))
        own = camera(-90, 10, 0.0)
        own[:3, 3] = (-0.05, 0.0, 0.03)
        letters = [(text[0], color) for text, color in labels]
        view.camera(own, letters, 0.30, 0.34, (1.25, 1.16, 1.16), convention == "opengl")
        view.text((95, 160), f"cameras: {convention}", INK, size=10)
        view.text((95, 177), ", ".join(text for text, _ in labels), SOFT, size=9.5)

    return draw


def draw_mesh_sources(work: Path, in_file: Mesh) -> None:
    """ShapeNet, meshes and faces: the axes of the file, then those of the world."""
    settings = {"views": VIEWS, "resolution": SIDE}
    sheet, _ = strip(work, "shapenet", "shapenet", work / "shapenet", **settings)
    # From where the front is seen at the left in all of these pictures, in axes of the file.
    y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    back = np.eye(4)
    back[:3, :3] = y_up @ np.diag([-1.0, -1.0, 1.0])
    title = "model_normalized.obj"
    source_picture("shapenet", title, sheet, mesh_panel(in_file, back @ camera(-40, 24), ("+y", "−z")))

    # A file whose front is +z, as many modellers export it.
    half_turn = (-1, 1, -1)
    turned = replace(in_file, vertices=in_file.vertices * half_turn, normals=in_file.normals * half_turn)
    folder = work / "models"
    folder.mkdir()
    source_obj = work / f"shapenet/02958343/{CAR}/models/model_normalized.obj"
    write_turned(source_obj, folder / f"{CAR}.obj")
    sheet, _ = strip(work, "meshes", "meshes", folder, category="car", **settings)
    ahead = np.eye(4)
    ahead[:3, :3] = y_up
    source_picture("meshes", f"{CAR}.obj", sheet, mesh_panel(turned, ahead @ camera(-40, 24), ("+y", "+z")))

    model = read_face_model(work / "faces/face_model.h5")
    zero = [np.zeros(len(term.deviation)) for term in (model.shape, model.color)]
    head = model.mesh(*zero)
    low, high = head.vertices.min(axis=0), head.vertices.max(axis=0)
    placed = (head.vertices - (low + high) / 2) / np.linalg.norm(high - low)
    head = replace(head, vertices=placed)
    sheet, _ = strip(work, "basel", "basel", work / "faces/face_model.h5", scenes=1, **settings)
    source_picture("basel", "the model's mean", sheet, mesh_panel(head, ahead @ camera(-25, 14), ("+y", "+z")))


def write_turned(source: Path, target: Path) -> None:
    """Half a turn about y, and paths of materials that stay right."""
    (target.parent / "model.mtl").write_text(
        source.with_suffix(".mtl").read_text().replace("../images/", f"{source.parents[1].as_posix()}/images/")
    )
    lines = []
    for line in source.read_text().splitlines():
        words = line.split()
        if words[:1] in (["v"], ["vn"]):
            x, y, z = map(float, words[1:4])
            line = f"{words[0]} {-x:.6f} {y:.6f} {-z:.6f}"
        lines.append("mtllib model.mtl" if words[:1] == ["mtllib"] else line)
    target.write_text("\n".join(lines) + "\n")


def orbit_views(car: Mesh, size: tuple[int, int], lens: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and poses of one turn around a car, up and down again."""
    caster = RayCaster(car, 16)
    for row in range(VIEWS):
        pose = camera(-30 + 360 * row / VIEWS, 22 + 16 * np.sin(2 * np.pi * row / VIEWS))
        yield caster.render(pose.astype(np.float32), lens, size)[0], pose


def write_captures(work: Path, car: Mesh) -> dict[str, Path]:
    """The same views of the car in the layouts of SRN, EG3D, nerfstudio, and as photographs."""
    views = list(orbit_views(car, (SIDE, SIDE), LENS))
    folders = {name: work / name for name in ("srn", "eg3d", "transforms", "inverted", "photographs")}
    write_srn(folders["srn"] / "cars_train" / CAR, views)
    write_eg3d(folders["eg3d"], views)
    to_opengl = np.diag([1.0, -1.0, -1.0, 1.0])
    write_transforms(folders["transforms"] / CAR, [(image, pose @ to_opengl) for image, pose in views])
    write_transforms(folders["inverted"] / CAR, [(image, np.linalg.inv(pose)) for image, pose in views])
    write_photographs(folders["photographs"] / CAR, car)
    return folders


def write_srn(folder: Path, views: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """``intrinsics.txt``, ``pose/000000.txt``, ``rgb/000000.png``."""
    for name in ("pose", "rgb"):
        (folder / name).mkdir(parents=True)
    focal = FOCAL * 512  # the files speak of 512 pixels, whatever the size of the images
    (folder / "intrinsics.txt").write_text(f"{focal} 256.0 256.0 0.\n0. 0. 0.\n1.\n512 512\n")
    for row, (image, pose) in enumerate(views):
        Image.fromarray(image).save(folder / f"rgb/{row:06d}.png")
        (folder / f"pose/{row:06d}.txt").write_text(" ".join(map(str, pose.ravel())) + "\n")


def write_eg3d(folder: Path, views: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """``dataset.json`` with 25 numbers an image."""
    labels = []
    (folder / CAR / "rgb").mkdir(parents=True)
    for row, (image, pose) in enumerate(views):
        name = f"{CAR}/rgb/{row:06d}.png"
        Image.fromarray(image).save(folder / name)
        labels.append([name, [*pose.ravel(), FOCAL, 0, 0.5, 0, FOCAL, 0.5, 0, 0, 1]])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def write_transforms(folder: Path, views: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """``transforms.json`` as nerfstudio writes it, with the poses as they are given."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for row, (image, pose) in enumerate(views):
        name = f"images/frame_{row + 1:05d}.png"
        Image.fromarray(image).save(folder / name)
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    lens = {"fl_x": FOCAL * SIDE, "fl_y": FOCAL * SIDE, "cx": SIDE / 2, "cy": SIDE / 2, "w": SIDE, "h": SIDE}
    (folder / "transforms.json").write_text(json.dumps({"camera_model": "OPENCV", **lens, "frames": frames}))


def write_photographs(folder: Path, car: Mesh) -> None:
    """Wide pictures before a backdrop, masks, and cameras in a world that a program chose."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    height, width = 240, 320
    lens = np.array([FOCAL * height / width, FOCAL, 0.5, 0.5], np.float32)
    generator = np.random.default_rng(7)
    other = np.linalg.qr(generator.standard_normal((3, 3)))[0]
    other *= np.sign(np.linalg.det(other))
    frames = []
    for row, (image, pose) in enumerate(orbit_views(car, (height, width), lens)):
        mask = (image < 255).any(axis=-1)
        shade = np.linspace(205, 150, height)[:, None] + 22 * np.sin(np.linspace(0, 7, width) + row)[None]
        backdrop = np.stack([shade * 0.93, shade * 0.98, shade], axis=-1)
        photograph = np.where(mask[..., None], image, backdrop).astype(np.uint8)
        Image.fromarray(photograph).save(folder / f"images/{row:04d}.jpg", quality=92)
        Image.fromarray(mask).save(folder / f"masks/{row:04d}.png")
        moved = np.eye(4)
        moved[:3, :3] = other @ pose[:3, :3]
        moved[:3, 3] = 3.7 * other @ pose[:3, 3] + (12, -3, 5)
        moved = moved @ np.diag([1, -1, -1, 1])
        paths = {"file_path": f"images/{row:04d}.jpg", "mask_path": f"masks/{row:04d}.png"}
        frames.append({**paths, "transform_matrix": moved.tolist()})
    document = {"fl_x": FOCAL * height, "fl_y": FOCAL * height, "w": width, "h": height, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(document))


def draw_posed_sources(work: Path, captures: dict[str, Path]) -> None:
    """Sources of posed images: the axes of their cameras, then those of the world."""
    for name, title, convention in (
        ("srn", "pose/000000.txt", "opencv"),
        ("eg3d", "dataset.json", "opencv"),
        ("transforms", "transforms.json", "opengl"),
    ):
        sheet, _ = strip(work, name, name, captures[name], category="car")
        source_picture(name, title, sheet, camera_panel(convention))

    folder = captures["photographs"]
    options = {"category": "car", "resolution": SIDE, "normalize": True, "split": "every_tenth"}
    sheet, _ = strip(work, "photographs", "transforms", folder, **options)

    def draw(axes: Any) -> None:
        for place, (name, text) in enumerate((("images/0002.jpg", "image"), ("masks/0002.png", "mask"))):
            image = np.asarray(Image.open(folder / CAR / name).convert("RGB"))
            left, top = 22, 6 + 92 * place
            axes.imshow(image, extent=(left, left + 112, top + 84, top))
            axes.text(left + 118, top + 42, text, size=10, va="center")
        axes.set(xlim=(0, 190), ylim=(186, 0), aspect="equal")
        axes.axis("off")

    source_picture("photographs", "the frames", sheet, draw)


# -- what goes wrong -------------------------------------------------------------------------------------------------


def draw_mistakes(work: Path, transforms: Path, inverted: Path) -> None:
    """One car read right, and read wrong in the ways that happen."""
    posed, opencv = ("transforms", transforms), {"camera_convention": "opencv"}
    mesh, rendered = ("shapenet", work / "shapenet"), {"views": VIEWS, "resolution": SIDE}
    rows: list[tuple[str, str, tuple[Any, Path], dict[str, Any]]] = [
        ("right", "cameras read as opengl,\nwhich they are", posed, {}),
        ("opengl read as opencv", "every camera looks away:\nthe axes are behind it", posed, opencv),
        ("w2c read as c2w", "all cameras stand at\none place", ("transforms", inverted), opencv),
        ("--up z, but +Y is up", "the car stands on its nose", mesh, {"up": "z", **rendered}),
        ("--yaw 0, but 180 is right", "+Y leaves through the front,\nnot the rear", mesh, {"yaw": 0.0, **rendered}),
    ]  # fmt: skip
    pitch = 188
    figure = canvas(1218, pitch * len(rows))
    for row, (title, note, (source, path), options) in enumerate(rows):
        sheet, _ = strip(work, f"mistake-{row}", source, path, **options)
        bottom = pitch * (len(rows) - 1 - row)
        show(figure, sheet, 250, bottom + 6)
        height = (bottom + 110) / (pitch * len(rows))
        color = GREEN if row == 0 else WRONG
        figure.text(10 / 1218, height, title, size=12, weight="bold", color=color, va="bottom")
        figure.text(10 / 1218, height - 6 / (pitch * len(rows)), note, size=10, color=SOFT, va="top", linespacing=1.35)
        if row:
            level = (bottom + pitch - 1) / (pitch * len(rows))
            figure.add_artist(plt.Line2D([0.008, 0.992], [level, level], color=RULE, linewidth=1))
    save(figure, "mistakes.png")


if __name__ == "__main__":
    main()
