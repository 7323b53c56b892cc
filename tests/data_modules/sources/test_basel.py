"""Basel Face Models: the layouts of all years, and what is drawn from them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import trimesh

from data_modules.sources.base import srgb_to_linear
from data_modules.sources.basel import CELLS, BaselSource, read_face_model
from scaled_ig.errors import UsageError
from tests.data_modules.sources.balls_as_meshes import assert_balls_land, coloured_balls

TRIANGLES = np.array([[0, 1, 2], [1, 2, 4]])


def basel_file(
    path: Path,
    color_range: float = 1.0,
    basis_type: str = "f4",
    expression: bool = True,
    cells: str = CELLS[0],
    rows: np.ndarray = TRIANGLES.T,
) -> Path:
    """A model of 5 vertices with 2 shape, 3 colour and 1 expression modes."""
    generator = np.random.default_rng(1)
    terms = [("shape", 2, 1.0), ("color", 3, color_range), ("expression", 1, 1.0)]
    with h5py.File(path, "w") as file:
        for name, modes, scale in terms if expression else terms[:2]:
            group = file.create_group(f"{name}/model")
            group["mean"] = generator.uniform(0.4, 0.6, 15).astype("f4") * scale
            group["pcaBasis"] = (generator.standard_normal((15, modes)) * 0.1 * scale).astype(basis_type)
            group["pcaVariance"] = generator.random(modes).astype("f4")
            group["noiseVariance"] = 0.0
        file[cells] = rows
    return path


@pytest.mark.parametrize(("color_range", "basis_type"), [(1.0, "f4"), (255.0, "f2")])
@pytest.mark.parametrize("with_expression", [True, False])
def test_an_instance_is_the_linear_model(tmp_path, color_range, basis_type, with_expression):
    path = basel_file(tmp_path / "model.h5", color_range, basis_type)
    model = read_face_model(path)
    shape, color, smile = np.array([1.5, -0.5]), np.array([0.3, -1.0, 2.0]), np.array([0.7])
    mesh = model.mesh(shape, color, smile if with_expression else None)
    with h5py.File(path) as file:
        values = {
            name: (item["model/mean"][:], item["model/pcaBasis"][:], item["model/pcaVariance"][:])
            for name, item in file.items()
        }
    expected = {}
    for name, coefficients in (("shape", shape), ("color", color), ("expression", smile * with_expression)):
        mean, basis, variance = (array.astype(np.float64) for array in values[name])
        expected[name] = (mean + basis @ (np.sqrt(variance) * coefficients)).reshape(5, 3)
    np.testing.assert_allclose(mesh.vertices, expected["shape"] + expected["expression"], rtol=1e-5)
    assert mesh.vertex_colors is not None
    np.testing.assert_allclose(
        mesh.vertex_colors, srgb_to_linear(np.clip(expected["color"] / color_range, 0, 1)), rtol=1e-4
    )
    assert mesh.faces.tolist() == TRIANGLES.tolist()


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("rows", [TRIANGLES, TRIANGLES.T, TRIANGLES.astype("u4")])
def test_older_names_and_both_ways_of_triangles(tmp_path, cells, rows):
    assert set(CELLS) >= {
        "shape/representer/cells",
        "representer/cells",
        "representer/reference-mesh/triangle-list",
        "shape/representer/reference-mesh/triangle-list",
    }
    path = basel_file(tmp_path / "model.h5", 255.0, expression=False, cells=cells, rows=rows)
    model = read_face_model(path)
    assert model.faces.tolist() == TRIANGLES.tolist()
    assert model.expression is None
    assert len(BaselSource(path, 1).load("face-00000")[0].faces) == 2


def test_identities_depend_on_seed_and_id_only(tmp_path):
    path = basel_file(tmp_path / "model.h5")
    few, many, other = BaselSource(path, 2), BaselSource(path, 9), BaselSource(path, 2, seed=1)
    assert [scene.id for scene in few.scenes()] == ["face-00000", "face-00001"]
    first, record = few.load("face-00001")
    np.testing.assert_array_equal(first.vertices, many.load("face-00001")[0].vertices)
    assert not np.array_equal(first.vertices, other.load("face-00001")[0].vertices)
    assert record["normalization"] == few.load("face-00000")[1]["normalization"], "one normalization for all"


def test_expression_moves_the_face_and_leaves_the_identity(tmp_path):
    path = basel_file(tmp_path / "model.h5")
    neutral, half, whole = (BaselSource(path, 2, expression=scale).load("face-00001") for scale in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(neutral[0].vertex_colors, whole[0].vertex_colors)
    moved = whole[0].vertices - neutral[0].vertices
    assert abs(moved).max() > 1e-3
    np.testing.assert_allclose(half[0].vertices - neutral[0].vertices, moved / 2, atol=1e-6)
    with h5py.File(path) as file:
        mode = file["expression/model/pcaBasis"][:, 0].reshape(5, 3)[:, [0, 2, 1]] * [1, -1, 1]
    along = (moved * mode).sum() / (mode * mode).sum()
    np.testing.assert_allclose(moved, along * mode, atol=1e-6, err_msg="along the mode of expression, in world axes")
    assert (neutral[1]["expression"], whole[1]["expression"]) == (0.0, 1.0)
    assert neutral[1]["normalization"] == whole[1]["normalization"]


def test_expressions_that_cannot_be(tmp_path):
    path = basel_file(tmp_path / "model.h5", expression=False)
    with pytest.raises(UsageError, match=r"no term of expression.*--expression"):
        BaselSource(path, 1, expression=1.0)
    for value in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="--expression"):
            BaselSource(path, 1, expression=value)


def test_balls_land_where_the_cameras_see_them(tmp_path):
    """A model without modes that move anything, whose mean is the three balls."""
    balls = trimesh.util.concatenate(coloured_balls())
    with h5py.File(tmp_path / "model.h5", "w") as file:
        for name, mean in (("shape", balls.vertices), ("color", balls.visual.vertex_colors[:, :3] / 255)):
            file[f"{name}/model/mean"] = np.asarray(mean, np.float32).reshape(-1)
            file[f"{name}/model/pcaBasis"] = np.zeros((mean.size, 2), np.float32)
            file[f"{name}/model/pcaVariance"] = np.ones(2, np.float32)
        file["shape/representer/cells"] = balls.faces.T
    assert_balls_land(BaselSource(tmp_path / "model.h5", 1).load("face-00000"), lambda x, y, z: (x, -z, y))


@pytest.mark.parametrize("rows", [TRIANGLES.T + 3, TRIANGLES.T - 1, np.zeros((2, 4), int), np.zeros((3, 0), int)])
def test_triangles_that_do_not_fit(tmp_path, rows):
    with pytest.raises(UsageError, match="do not fit its 5 vertices"):
        read_face_model(basel_file(tmp_path / "model.h5", rows=rows))


def test_not_a_basel_model(tmp_path):
    (tmp_path / "model.h5").write_text("no")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["shape/model/mean"] = np.zeros(3)
    for name in ("model.h5", "other.h5", "gone.h5"):
        with pytest.raises(UsageError, match="no Basel Face Model"):
            BaselSource(tmp_path / name, 1)
