"""Procedural cars and heads: the same bytes on every run, sound geometry, files that obey their formats."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_modules.sources.basel import BaselSource
from data_modules.synthesize.car_design import BODY_STYLES, body_style
from data_modules.synthesize.cars import CAR_SYNSET, draw_car, write_cars
from data_modules.synthesize.faces import write_face_model
from data_modules.synthesize.head import COLUMNS, ROWS
from data_modules.synthesize.mesh_builder import Part
from scaled_ig.commands.synthesize import synthesize
from scaled_ig.errors import UsageError

SHELL = {"side", "top", "front", "rear", "underside"}


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def joined(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of all parts."""
    starts = np.cumsum([0, *[len(part.vertices) for part in parts]])
    triangles = [part.triangles + start for part, start in zip(parts, starts[:-1], strict=True)]
    return np.concatenate([part.vertices for part in parts]), np.concatenate(triangles)


@pytest.fixture(scope="module")
def one_of_each() -> dict[str, list[Part]]:
    """The first car of every body style in set 0."""
    found: dict[str, list[Part]] = {}
    for index in range(60):
        style = body_style(0, index)
        if style not in found:
            parts, _, named = draw_car(0, index)
            assert named == style
            found[style] = parts
    return found


@pytest.fixture(scope="module")
def face_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faces") / "face_model.h5"
    write_face_model(path)
    return path


def test_the_face_model_is_not_basels(face_model: Path) -> None:
    assert BaselSource(face_model, 1).load("face-00000")[1]["license"] == "CC0-1.0"


def test_a_car_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    write_cars(tmp_path / "few", 2, seed=3)
    write_cars(tmp_path / "more", 4, seed=3)
    few, more = tree(tmp_path / "few"), tree(tmp_path / "more")
    assert few
    assert few.items() <= more.items()
    write_cars(tmp_path / "other", 2, seed=4)
    other = tree(tmp_path / "other")
    for name, data in few.items():
        if name.endswith(".obj"):
            assert other[name.replace("car_003_", "car_004_")] != data


def test_complete_cars_are_kept_and_drafts_never_stay(tmp_path: Path) -> None:
    assert write_cars(tmp_path, 2, seed=0) == 2
    marker = tmp_path / CAR_SYNSET / "car_000_00001" / "mine.txt"
    marker.write_text("kept")
    assert write_cars(tmp_path, 3, seed=0) == 1
    assert marker.exists()
    assert [path.name for path in sorted((tmp_path / CAR_SYNSET).iterdir())] == [f"car_000_{k:05d}" for k in range(3)]


def test_files_name_each_other(tmp_path: Path) -> None:
    write_cars(tmp_path, 1, seed=0)
    models = tmp_path / CAR_SYNSET / "car_000_00000" / "models"
    lines = (models / "model_normalized.obj").read_text().splitlines()
    materials = (models / "model_normalized.mtl").read_text().splitlines()
    maps = [line.split(maxsplit=1)[1] for line in materials if line.startswith("map_Kd")]
    assert len(maps) >= 5
    assert all(name.startswith("../images/") and (models / name).is_file() for name in maps)
    defined = {line.split()[1] for line in materials if line.startswith("newmtl")}
    assert {line.split()[1] for line in lines if line.startswith("usemtl")} == defined
    count = sum(line.startswith("v ") for line in lines)
    corners = [int(corner.split("/")[0]) for line in lines if line.startswith("f ") for corner in line.split()[1:]]
    assert min(corners) >= 1
    assert max(corners) <= count
    record = json.loads((models / "model_normalized.json").read_text())
    assert record["id"] == "car_000_00000"
    assert record["numVertices"] == count
    extent = np.array(record["max"]) - np.array(record["min"])
    assert extent[2] == extent.max()


@pytest.mark.parametrize("style", BODY_STYLES)
def test_geometry_is_sound(one_of_each: dict[str, list[Part]], style: str) -> None:
    parts = one_of_each[style]
    vertices, triangles = joined(parts)
    used = vertices[np.unique(triangles)]
    assert np.isfinite(vertices).all()
    assert triangles.min() >= 0
    assert triangles.max() < len(vertices)
    assert 2000 <= len(triangles) <= 10000
    low, high = used.min(0), used.max(0)
    assert np.linalg.norm(high - low) == pytest.approx(1.0)
    assert low + high == pytest.approx(0.0, abs=1e-9)
    corners = vertices[triangles]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(facing, axis=-1).min() > 0
    for part in parts:
        assert part.texture_coordinates.min() >= -1e-6
        assert part.texture_coordinates.max() <= 1 + 1e-6
        piece = part.vertices[part.triangles]
        assert np.isfinite(part.normals()).all()
        if part.material not in SHELL:
            assert np.einsum("ij,ij->i", piece[:, 0], np.cross(piece[:, 1], piece[:, 2])).sum() > 0


@pytest.mark.parametrize("style", BODY_STYLES)
def test_shell_is_closed_and_faces_outwards(one_of_each: dict[str, list[Part]], style: str) -> None:
    """Rays from above and from below, clear of the rounded corners of the plan, always meet the shell."""
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("embreex")
    shell = [part for part in one_of_each[style] if part.material in SHELL]
    vertices, triangles = joined(shell)
    mesh = trimesh.Trimesh(vertices, triangles, process=False)
    assert mesh.volume > 0
    low, high = mesh.bounds
    x, z = np.meshgrid(np.linspace(-0.85, 0.85, 15) * high[0], np.linspace(0.9 * low[2], 0.9 * high[2], 41))
    origins = np.stack([x.ravel(), np.full(x.size, 1.0), z.ravel()], -1)
    down = np.broadcast_to([0.0, -1.0, 0.0], origins.shape)
    first = mesh.ray.intersects_first(origins, down)
    inside = (np.abs(origins[:, 0]) < 0.6 * high[0]) | (np.abs(origins[:, 2]) < 0.6 * high[2])
    assert (first[inside] >= 0).all()
    assert (mesh.face_normals[first[inside]][:, 1] > -0.01).all()
    assert (mesh.ray.intersects_first(origins * (1, -1, 1), -down)[inside] >= 0).all()


def test_face_model_obeys_the_layout(face_model: Path) -> None:
    with h5py.File(face_model) as file:
        points, cells = file["shape/representer/points"][()], file["shape/representer/cells"][()]
        number = points.shape[1]
        assert cells.shape[0] == 3
        assert cells.min() >= 0
        assert cells.max() < number
        generator = np.random.default_rng(0)
        for name in ("shape", "color", "expression"):
            model = {key: dataset[()] for key, dataset in file[f"{name}/model"].items()}
            assert set(model) == {"mean", "pcaBasis", "pcaVariance", "noiseVariance"}
            assert model["mean"].dtype == model["pcaBasis"].dtype == model["pcaVariance"].dtype == np.float32
            modes = len(model["pcaVariance"])
            assert model["mean"].shape == (3 * number,)
            assert model["pcaBasis"].shape == (3 * number, modes)
            assert (np.diff(model["pcaVariance"]) <= 0).all()
            assert model["pcaVariance"].min() > 0
            np.testing.assert_allclose(model["pcaBasis"].T @ model["pcaBasis"], np.eye(modes), atol=1e-4)
            draw = generator.standard_normal(modes)
            assert np.isfinite(model["mean"] + model["pcaBasis"] @ (np.sqrt(model["pcaVariance"]) * draw)).all()
        np.testing.assert_allclose(file["shape/model/mean"][()].reshape(-1, 3).T, points)
        colours = file["color/model/mean"][()]
        assert colours.min() >= 0
        assert colours.max() <= 1


def test_mean_head_is_symmetric_and_faces_outwards(face_model: Path) -> None:
    with h5py.File(face_model) as file:
        mean = file["shape/model/mean"][()].reshape(-1, 3).astype(float)
        colours = file["color/model/mean"][()].reshape(-1, 3)
        cells = file["shape/representer/cells"][()].T
    rings = np.arange(1, 1 + ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    mirrored = rings[:, -np.arange(COLUMNS) % COLUMNS]
    np.testing.assert_allclose(mean[rings], mean[mirrored] * (-1, 1, 1), atol=1e-3)
    np.testing.assert_allclose(colours[rings], colours[mirrored], atol=1e-3)
    corners = mean[cells]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 2.5e6 < volume < 6e6  # cubic millimetres: two and a half to six litres
    nose = mean[mean[:, 2].argmax()]
    assert abs(nose[0]) < 3


def test_face_model_is_the_same_on_every_run(face_model: Path, tmp_path: Path) -> None:
    write_face_model(tmp_path / "again.h5")
    with h5py.File(face_model) as first, h5py.File(tmp_path / "again.h5") as second:
        for name in ("shape/model/mean", "shape/model/pcaBasis", "color/model/pcaBasis"):
            np.testing.assert_array_equal(first[name][()], second[name][()])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize("cars", out=str(tmp_path / "cars"), scenes=1) == 0
    assert "pack shapenet" in capsys.readouterr().out
    assert synthesize("faces", out=str(tmp_path / "faces")) == 0
    assert (tmp_path / "faces" / "face_model.h5").is_file()
    assert "pack basel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "options"),
    [("faces", {"scenes": 3}), ("faces", {"seed": 1}), ("cars", {"scenes": 0}), ("cars", {"seed": -1})],
)
def test_command_refuses_what_has_no_meaning(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(options))}"):
        synthesize(kind, out=str(tmp_path), **options)  # type: ignore[arg-type]


def test_command_names_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out"):
        synthesize("cars", out=str(tmp_path / "file"), scenes=1)
