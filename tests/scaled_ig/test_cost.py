"""Bytes are counted from shapes by hand."""

from scaled_ig.cost import bytes_per_scene, milliseconds_per_image, shared_bytes


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


def test_times_are_measured_without_leaving_a_trace(tiny_scene):
    scene = tiny_scene()
    before = {name: value.clone() for name, value in scene.state_dict().items()}
    times = milliseconds_per_image(scene, repeats=3)
    assert set(times) == {"render", "decode"}
    assert min(times.values()) > 0
    assert all(value.equal(before[name]) for name, value in scene.state_dict().items())
