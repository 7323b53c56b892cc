"""Any number of threads and of workers read and render one bank: each sees the scene that it asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from scaled_ig import native
from scaled_ig.autoencoders import IdentityAutoencoder
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import orbit
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import InstantNgp, TriPlanes
from scaled_ig.scene_model import SceneModel

THREADS, SCENES = 8, 12
IDS = [f"scene-{row}" for row in range(SCENES)]
CAMERAS = orbit(2)


def latents(tiny_scene) -> SceneModel:
    return tiny_scene(SCENES)


def heads_of_their_own(_) -> SceneModel:
    """Read by planes and a compiled kernel where there is one."""
    model = SceneModel(TriPlanes(3, 8, 0.5), IdentityAutoencoder(), InsideBall(8), resolution=16, own_heads=True)
    return with_scenes(model)


def points(_) -> SceneModel:
    """Read point by point."""
    tables = InstantNgp(levels=2, log2_table_size=8, coarsest=4, finest=8, density_resolution=4, table_std=1.0)
    return with_scenes(SceneModel(tables, IdentityAutoencoder(), InsideBall(8), resolution=16, own_heads=True))


@torch.no_grad()
def with_scenes(model: SceneModel) -> SceneModel:
    model.representation.new_scenes(SCENES, seed=5)
    head = model.representation.head.weight
    head += torch.randn(head.shape, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(params=[latents, heads_of_their_own, points], ids=lambda make: make.__name__)
def path(request, tiny_scene, tmp_path):
    SceneBank.write(tmp_path / "bank", request.param(tiny_scene), IDS, "stage1", [""] * SCENES)
    return tmp_path / "bank"


def test_threads_render_what_one_renders(path):
    serial = {name: SceneBank.open(path)[name].render(CAMERAS) for name in IDS}
    assert len({image.sum().item() for image in serial.values()}) == SCENES, "each scene looks different"
    bank, start = SceneBank.open(path), threading.Barrier(THREADS)  # threads meet before the first model is built
    held = {name: SceneBank.open(path)[name] for name in IDS[:2]}

    def render(thread: int) -> list[str]:
        start.wait()
        order = [IDS[(thread * 5 + step) % SCENES] for step in range(SCENES)]
        wrong = [name for name in order if not torch.equal(bank[name].render(CAMERAS), serial[name])]
        return wrong + [name for name, scene in held.items() if not torch.equal(scene.render(CAMERAS), serial[name])]

    with ThreadPoolExecutor(THREADS) as pool:
        assert not [name for wrong in pool.map(render, range(THREADS)) for name in wrong]


@pytest.mark.skipif(not native.works(), reason="no C compiler here")
def test_threads_compile_a_kernel_once(tmp_path, monkeypatch):
    """They would write one draft: the second finds it gone, and the process has no fast kernel from then on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    start = threading.Barrier(4)

    def compile_one(_: int) -> str:
        start.wait()
        return native.library.__wrapped__("adam")._name

    with ThreadPoolExecutor(4) as pool:
        names = set(pool.map(compile_one, range(4)))
    assert names == {str(path) for path in (tmp_path / "scaled-ig").iterdir()}
    assert len(names) == 1


class Pictures(Dataset):
    """Renders scenes in workers, some of them from an object that its parent has opened."""

    def __init__(self, bank: SceneBank) -> None:
        self.bank, self.first = bank, bank[IDS[0]]

    def __len__(self) -> int:
        return SCENES

    def __getitem__(self, place: int):
        scene = self.bank[IDS[place]] if place else self.first
        return scene.render(CAMERAS)


def test_workers_render_what_one_renders(tiny_scene, tmp_path):
    bank = SceneBank.write(tmp_path / "bank", latents(tiny_scene), IDS, "stage1", [""] * SCENES)
    serial = torch.stack([bank[name].render(CAMERAS) for name in IDS])
    loader = DataLoader(Pictures(bank), batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), serial)


def test_a_worker_may_be_forked_while_a_model_is_built(tiny_scene, tmp_path):
    """A lock that another thread holds when a process is forked would be held there for ever."""
    SceneBank.write(tmp_path / "bank", latents(tiny_scene), IDS, "stage1", [""] * SCENES)
    bank, over = SceneBank.open(tmp_path / "bank"), threading.Event()
    others = [SceneBank.open(tmp_path / "bank") for _ in range(500)]

    def build() -> None:
        for other in others:  # each connects to its table and builds its model
            if not over.is_set():
                other["scene-1"]

    builder = threading.Thread(target=build)
    builder.start()
    try:
        for _ in range(3):
            loader = DataLoader(bank.dataset(), batch_size=SCENES, num_workers=2, multiprocessing_context="fork")
            (batch,) = loader
            assert torch.equal(batch["planes"], bank.planes())
    finally:
        over.set()
        builder.join()
