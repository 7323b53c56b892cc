"""Bytes are counted from shapes by hand, and from the sizes of files."""

import torch

from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.metrics.costs import bank_bytes, bytes_per_scene, milliseconds_per_image, row_bytes, shared_bytes
from scaled_ig.rendering.sampling import InsideHull
from scaled_ig.representations.occupancy import Hulls
from scaled_ig.representations.view_start import ViewStart
from tests.conftest import ball_hulls


def size_of(folder) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_bytes(tiny_scene):
    scene = tiny_scene()
    assert bytes_per_scene(scene) == {"micro": 4 * 3 * 8 * 8 * 4, "mixing": 4 * 3}
    shared = shared_bytes(scene)
    assert shared["bases"] == 4 * 3 * 3 * 8 * 8 * 6
    assert shared["head"] == 4 * (10 * 64 + 64 + 64 * 6 + 6)
    named = dict(scene.autoencoder.named_parameters())
    for part in ("encoder", "decoder"):
        assert shared[part] == 4 * sum(value.numel() for name, value in named.items() if part in name)
    assert shared["buffers"] == 4 * (5 + 5 + 5)
    total = sum(bytes_per_scene(scene).values()) * 4 + sum(shared.values())
    assert total == 4 * sum(value.numel() for value in scene.state_dict().values())


@torch.no_grad()
def test_bytes_of_scenes_with_hulls_are_those_of_the_texels_that_are_read(tiny_scene):
    scene = tiny_scene(sampling=InsideHull(8))
    scene.representation.hull.weight.copy_(ball_hulls(4))
    read = scene.representation.texels(Hulls(scene.representation.hull.weight))
    own, rows = bytes_per_scene(scene), row_bytes(scene)
    assert rows == {"micro": 4 * 3 * 8 * 8 * 4, "mixing": 4 * 3, "hull": 64**3 // 8}
    assert own["micro"] == 4 * 4 * int(read.sum()) / 4 < 0.8 * rows["micro"]
    assert own["mixing"] == rows["mixing"]
    assert 200 < own["hull"] < 1500
    scene.representation.new_scenes(0)
    assert bytes_per_scene(scene) == rows, "where there are no scenes to look at"


def test_times_are_measured_without_leaving_a_trace(tiny_scene):
    scene = tiny_scene()
    before = {name: value.clone() for name, value in scene.state_dict().items()}
    times = milliseconds_per_image(scene, repeats=3)
    assert set(times) == {"render", "decode"}
    assert min(times.values()) > 0
    assert all(value.equal(before[name]) for name, value in scene.state_dict().items())


def test_what_scenes_share_adds_up_to_their_shared_state(tiny_scene):
    scene = tiny_scene()
    assert sum(shared_bytes(scene).values()) == sum(value.nbytes for value in scene.shared_state().values())


def test_every_byte_of_a_bank_has_a_name(tiny_scene, tmp_path):
    scene, bank = tiny_scene(), tmp_path / "bank"
    start, mean = ViewStart(torch.zeros(3, 5, 2), torch.zeros(3, 4, 4, 2)), scene.representation.mean_scene()
    for version, names in (("one", "abcd"), ("two", "efgh")):
        SceneBank.write(bank, scene, list(names), version, [""] * 4, encoding="float32", mean=mean, view_start=start)
    with torch.no_grad():
        scene.renderer.head.out.bias.add_(1)
    SceneBank.write(bank, scene, list("ijkl"), "three", [""] * 4, encoding="int8_difference")
    (bank / "notes.txt").write_text("mine")
    items, own = bank_bytes(bank), sum(bytes_per_scene(scene).values())
    assert items.keys() == {"records", "shared one, two", "shared three", "index", "other"}
    assert items["records"].keys() == {"one", "two", "three"}
    assert items["records"]["one"] == items["records"]["two"] == 4 * own
    assert items["records"]["three"] < own
    for name in ("shared one, two", "shared three"):
        found = items[name]
        assert found.pop("mean scene") == own
        start_bytes, contents = found.pop("start of scenes", 0), found.pop("contents")
        assert start_bytes == (4 * (3 * 5 * 2 + 3 * 4 * 4 * 2) if name == "shared one, two" else 0)
        assert found == {part: size for part, size in shared_bytes(scene).items() if size}
        items[name] |= {"contents": contents, "mean scene": own, "start of scenes": start_bytes}
    assert items["other"] == {"notes.txt": 4}
    assert sum(sum(sizes.values()) for sizes in items.values()) == size_of(bank)
