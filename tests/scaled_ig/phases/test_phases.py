"""One real step of every phase: what is trained, what stays, and what the loss reaches."""

import copy
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from data_modules.packing.pack import write_pack
from data_modules.shapenet import ShapeNetCars
from data_modules.sources.transforms import TransformsSource
from scaled_ig.errors import UsageError
from scaled_ig.phases import AutoencoderTraining, Joint, LatentSupervision, RgbAlignment, WarmUp
from scaled_ig.phases.base import LearningRates, jitter
from scaled_ig.phases.joint import JointWeights
from scaled_ig.phases.losses import latent_loss, reconstruction_loss, relative_latent_loss, rgb_loss
from scaled_ig.randomness import CounterNoise
from scaled_ig.scene_model import SceneModel
from tests.conftest import phase_data

PHASES = (AutoencoderTraining, WarmUp, Joint, LatentSupervision, RgbAlignment)

# method 5, and the autoencoder's own training before it.
TRAINED = {
    AutoencoderTraining: {"encoder", "decoder"},
    WarmUp: {"micro", "mixing", "bases", "head"},
    Joint: {"micro", "mixing", "bases", "head", "encoder", "decoder"},
    LatentSupervision: {"micro", "mixing", "bases", "head"},
    RgbAlignment: {"micro", "mixing", "bases", "head", "decoder"},
}
PARTS = ("micro", "mixing", "bases", "head", "encoder", "decoder")


def parameters(scene: SceneModel) -> dict[str, list[torch.Tensor]]:
    """The model's parts, found by the names of their modules."""
    named = dict(scene.named_parameters())
    prefixes = {part: (f"representation.{part}",) for part in ("micro", "mixing", "bases")}
    prefixes |= {"head": ("renderer.head",)}
    prefixes |= {
        part: (f"autoencoder.linear_{part}", f"autoencoder.residual_{part}") for part in ("encoder", "decoder")
    }
    found = {part: [named.pop(n) for n in list(named) if n.startswith(own)] for part, own in prefixes.items()}
    assert not named
    return found


def train(phase, data, steps: int = 1, callbacks=()) -> Trainer:
    """A real Trainer."""
    data = data.for_phase(phase_data(phase))
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(phase, datamodule=data)
    return trainer


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Trainers keep their files in the present folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tiny_pack):
    return ShapeNetCars(str(tiny_pack), stage1_scenes=4, stage2_scenes=4, batch_size=4)


@pytest.fixture
def scene(tiny_scene, data) -> SceneModel:
    made = tiny_scene()
    images = torch.cat([batch.pixels for batch in data.some_training_views(36)])
    made.autoencoder.start_from_pca(images)
    with torch.no_grad():
        made.autoencoder.measure_range(made.autoencoder.encode(images))
    made.measure_background()
    return made


@pytest.mark.parametrize("phase", PHASES)
def test_a_step_changes_what_is_trained_and_nothing_else(phase, scene, data):
    before = copy.deepcopy(parameters(scene))
    train(phase(scene), data, steps=2)
    for part in PARTS:
        pairs = list(zip(parameters(scene)[part], before[part], strict=True))
        if part in TRAINED[phase]:
            assert any(not torch.equal(now, then) for now, then in pairs), f"{part} must be trained"
            assert all(now.isfinite().all() for now, _ in pairs)
        else:
            assert all(torch.equal(now, then) for now, then in pairs), f"{part} must stay"
        assert all(now.requires_grad == (part in TRAINED[phase]) for now, _ in pairs), f"{part} must be frozen or not"


@pytest.mark.parametrize("phase", PHASES)
def test_phases_have_the_papers_names_and_rates(phase, scene):
    module = phase(scene)
    assert set(module.trains) == TRAINED[phase]
    assert module.stage == (2 if phase in (LatentSupervision, RgbAlignment) else 1)
    table = {
        WarmUp: {"micro": 1e-2, "head": 1e-2, "mixing": 1e-2, "bases": 1e-2},
        Joint: {"micro": 1e-4, "head": 1e-4, "mixing": 1e-2, "bases": 1e-2, "encoder": 1e-4, "decoder": 1e-4},
        LatentSupervision: {"micro": 1e-2, "head": 1e-2, "mixing": 1e-2, "bases": 1e-2},
        RgbAlignment: {"micro": 1e-3, "head": 1e-3, "mixing": 1e-2, "bases": 1e-2, "decoder": 1e-4},
        AutoencoderTraining: {},
    }
    for part, rate in table[phase].items():
        assert getattr(module.learning_rates, part) == rate
    assert vars(module.settings.adam) == {
        "clock": "exact_dense",
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "scene_rate": 1.0,
    }


class Rates(Callback):
    """Writes down the rate of every group in every step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})


@pytest.mark.parametrize(
    ("phase", "factor"),
    [
        (WarmUp, lambda epoch: 1.0 if epoch < 20 else 0.3 if epoch < 40 else 0.09),
        (LatentSupervision, lambda epoch: 0.941**epoch),
    ],
)
def test_every_groups_rate_at_every_epoch(phase, factor, scene, data):
    rates = Rates()
    data.batch_size = 36
    train(phase(scene), data, 45, [rates])
    assert data.steps_per_epoch() == 1
    assert len(rates.seen) == 45
    for epoch, groups in enumerate(rates.seen):
        assert set(groups) == {"micro", "mixing", "bases", "head"}
        assert groups == pytest.approx(dict.fromkeys(groups, 0.01 * factor(epoch)))


def test_the_background_follows_the_encoder_through_the_joint_phase(scene, data):
    before = scene.background.clone()
    train(Joint(scene, background_every=3), data, steps=5)
    after = scene.background.clone()
    scene.measure_background()
    assert torch.equal(after, scene.background), "measured at the end of the phase"
    assert not torch.equal(after, before)

    class Watch(Callback):
        def __init__(self) -> None:
            self.fresh: list[bool] = []

        def on_before_zero_grad(self, trainer, pl_module, optimizer) -> None:
            used = scene.background.clone()
            scene.measure_background()
            self.fresh.append(torch.equal(used, scene.background))
            scene.background.copy_(used)

    watch = Watch()
    train(Joint(scene, background_every=3), data, 6, [watch])
    assert watch.fresh == [True, False, False, True, False, False]


@pytest.mark.parametrize("phase", [WarmUp, LatentSupervision])
def test_phases_of_a_frozen_encoder_measure_the_background_themselves(phase, scene, data):
    expected = scene.background.clone()
    scene.background.fill_(0.5)
    train(phase(scene), data)
    assert torch.equal(scene.background, expected)


@pytest.mark.parametrize("phase", [WarmUp, LatentSupervision])
def test_the_target_is_the_mean_of_the_posterior_and_comes_from_the_cache(phase, scene, data):
    module = phase(scene)
    train(module, data)
    (batch,) = data.batches(module.stage, [(1, 4), (3, 2)])
    noise = CounterNoise(0, module.number, 1)
    rendered = scene.render_latent(batch.cameras, batch.scene_index, jitter(module.scene, batch, noise))
    expected = latent_loss(rendered, scene.encode(batch.pixels))
    without_images = type(batch)(batch.cameras, batch.scene_index, batch.view_index)
    ((weight, value),) = module.terms(without_images, noise).values()
    assert weight == 1
    torch.testing.assert_close(value, expected)
    assert not module.needs_images


@pytest.mark.parametrize("phase", [WarmUp, LatentSupervision])
def test_random_rays_have_the_same_expectation_as_whole_images(phase, scene, data):
    module = phase(scene, rays_per_view=4000)
    train(module, data)
    (batch,) = data.batches(module.stage, [(1, 4), (3, 2)])
    noise = CounterNoise(0, module.number, 1)
    whole = latent_loss(scene.render_latent(batch.cameras, batch.scene_index), scene.encode(batch.pixels))
    ((_, value),) = module.terms(batch, noise).values()
    assert float(value.detach()) == pytest.approx(float(whole.detach()), rel=0.1)


def gradients(scene: SceneModel, loss: torch.Tensor) -> set[str]:
    """Parts that a loss reaches."""
    scene.zero_grad()
    loss.backward()
    return {
        part
        for part, own in parameters(scene).items()
        if any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in own)
    }


def test_what_the_losses_of_the_joint_phase_reach(scene, data):
    module = Joint(scene, weights=JointWeights(relative_latent=0.5))
    train(module, data)
    (batch,) = data.batches(1, [(1, 4), (3, 2)])
    planes = {"micro", "mixing", "bases", "head"}
    expected = {
        "latent": planes | {"encoder"},
        "relative_latent": planes | {"encoder"},
        "rgb": planes | {"decoder"},
        "reconstruction": {"encoder", "decoder"},
    }
    for name, reached in expected.items():
        assert gradients(scene, module.terms(batch, CounterNoise(0))[name][1]) == reached, name


@torch.no_grad()
@pytest.mark.parametrize("relative", [0.0, 0.3])
def test_the_terms_of_the_joint_phase(scene, data, relative):
    module = Joint(scene, weights=JointWeights(relative_latent=relative))
    train(module, data)
    (batch,) = data.batches(1, [(1, 4), (3, 2)])
    noise = CounterNoise(0, 2, 1)
    latent = scene.encode(batch.pixels)
    rendered = scene.render_latent(batch.cameras, batch.scene_index, jitter(module.scene, batch, noise))
    expected = {
        "latent": (1.0, latent_loss(rendered, latent)),
        "rgb": (1.0, rgb_loss(scene.decode(rendered).clamp(-1, 1), batch.pixels)),
        "reconstruction": (0.1, reconstruction_loss(scene.decode(latent).clamp(-1, 1), batch.pixels)),
    }
    if relative:
        expected["relative_latent"] = (relative, relative_latent_loss(rendered, latent))
    terms = module.terms(batch, noise)
    assert terms.keys() == expected.keys()
    for name, (weight, value) in expected.items():
        assert terms[name][0] == weight
        torch.testing.assert_close(terms[name][1], value)


@torch.no_grad()
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_alignment_mixes_images_and_latents_of_one_rendering(scene, data, weight):
    module = RgbAlignment(scene, latent_weight=weight)
    train(module, data)
    (batch,) = data.batches(2, [(1, 4), (3, 2)])
    noise = CounterNoise(0, module.number, 1)
    rendered = scene.render_latent(batch.cameras, batch.scene_index, jitter(module.scene, batch, noise))
    expected = {"rgb": (1 - weight, rgb_loss(scene.decode(rendered).clamp(-1, 1), batch.pixels))}
    if weight:
        expected["latent"] = (weight, latent_loss(rendered, scene.encode(batch.pixels)))
    terms = module.terms(batch, noise)
    assert terms.keys() == expected.keys()
    for name, (share, value) in expected.items():
        assert terms[name][0] == share
        torch.testing.assert_close(terms[name][1], value)


def two_unmasked_views(scene, data, stage):
    (batch,) = data.batches(stage, [(1, 4), (3, 2)])
    masks = torch.zeros(2, *scene.image_size, dtype=torch.uint8)
    return replace(batch, masks=masks, masked=torch.zeros(2, dtype=torch.bool))


@torch.no_grad()
def test_alignment_looks_at_parts_of_views_and_encodes_them_anew(scene, data):
    side = scene.image_size[0] // 2
    module = RgbAlignment(scene, latent_weight=0.3, crop_size=side)
    train(module, data)
    batch, noise = two_unmasked_views(scene, data, 2), CounterNoise(0, module.number, 1)
    model, part = module.crops(scene, batch, noise)
    rendered = model.render_latent(part.cameras, part.scene_index, jitter(model, part, noise))
    terms = module.terms(batch, noise)
    assert part.pixels.shape == (2, 3, side, side)
    torch.testing.assert_close(terms["rgb"][1], rgb_loss(scene.decode(rendered).clamp(-1, 1), part.pixels))
    torch.testing.assert_close(terms["latent"][1], latent_loss(rendered, scene.encode(part.pixels)))


@torch.no_grad()
def test_joint_training_looks_at_parts_of_views(scene, data):
    side = scene.image_size[0] // 2
    module = Joint(scene, crop_size=side)
    train(module, data)
    batch, noise = two_unmasked_views(scene, data, 1), CounterNoise(0, module.number, 1)
    model, part = module.crops(scene, batch, noise)
    rendered = model.render_latent(part.cameras, part.scene_index, jitter(model, part, noise))
    terms, latent = module.terms(batch, noise), scene.encode(part.pixels)
    torch.testing.assert_close(terms["latent"][1], latent_loss(rendered, latent))
    decoded = scene.decode(latent).clamp(-1, 1)
    torch.testing.assert_close(terms["reconstruction"][1], reconstruction_loss(decoded, part.pixels))


@torch.no_grad()
def test_autoencoder_training_looks_at_parts_of_views(scene, data):
    side = scene.image_size[0] // 2
    module = AutoencoderTraining(scene, crop_size=side, augment=False)
    train(module, data)
    batch, noise = two_unmasked_views(scene, data, 1), CounterNoise(0, module.number, 1)
    _, part = module.crops(scene, batch, noise)
    (_, loss) = module.terms(batch, noise)["reconstruction"]
    assert part.pixels.shape[-1] == side
    torch.testing.assert_close(loss, reconstruction_loss(scene.decode(scene.encode(part.pixels)), part.pixels))


class ImagesAlone(RgbAlignment):
    """RGB alignment without any setting."""

    def terms(self, batch, noise):
        rendered = self.scene.render_latent(batch.cameras, batch.scene_index, jitter(self.scene, batch, noise))
        return {"rgb": (1.0, rgb_loss(self.scene.decode(rendered).clamp(-1, 1), batch.pixels))}


def test_no_weight_of_the_latents_is_alignment_by_images_to_the_bit(scene, data):
    scenes = [copy.deepcopy(scene) for _ in range(3)]
    phases = ImagesAlone(scenes[0]), RgbAlignment(scenes[1]), RgbAlignment(scenes[2], latent_weight=0.3)
    for phase in phases:
        train(phase, data, steps=2)
    plain, without, mixed = map(parameters, scenes)
    for part in PARTS:
        assert all(torch.equal(a, b) for a, b in zip(plain[part], without[part], strict=True)), part
        same = all(torch.equal(a, b) for a, b in zip(plain[part], mixed[part], strict=True))
        assert same == (part == "encoder"), part


def test_an_encoder_that_follows_is_not_felt_by_the_rest(scene, data):
    frozen, following = scene, copy.deepcopy(scene)
    for phase in RgbAlignment(frozen), RgbAlignment(following, encoder_follows=True):
        train(phase, data, steps=2)
    for part in PARTS:
        pairs = zip(parameters(frozen)[part], parameters(following)[part], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == (part != "encoder"), part


def test_an_encoder_that_follows_gives_what_scenes_render(scene, data):
    def disagreement() -> float:
        (batch,) = data.batches(2, [(1, 4), (3, 2)])
        with torch.no_grad():
            rendered = scene.render_latent(batch.cameras, batch.scene_index, None)
            return float(latent_loss(rendered, scene.encode(batch.pixels)))

    apart = disagreement()
    rates = LearningRates(micro=0, mixing=0, bases=0, head=0, decoder=0, encoder=1e-2)
    train(RgbAlignment(scene, learning_rates=rates, encoder_follows=True), data, steps=40)
    assert disagreement() < 0.3 * apart


def test_scenes_do_not_follow_the_encoder_that_follows_them(scene):
    with pytest.raises(UsageError, match=r"^encoder_follows with latent_weight 0\.3: .*give one of them$"):
        RgbAlignment(scene, latent_weight=0.3, encoder_follows=True)


@pytest.mark.parametrize("weight", [-0.1, 1.0, float("nan")])
def test_a_weight_of_the_latents_out_of_range_is_one_sentence(scene, weight):
    with pytest.raises(UsageError, match=r"^RgbAlignment\.latent_weight \S+ must be at least 0 and less than 1$"):
        RgbAlignment(scene, latent_weight=weight)


@pytest.mark.parametrize("limit", [1e-4, 1e4])
def test_gradients_are_clipped_by_their_norm_over_all_parts(scene, data, limit):
    def norm(phase) -> float:
        given = [p.grad for group in phase.scene_adam().param_groups for p in group["params"] if p.grad is not None]
        dense = [gradient.to_dense() if gradient.is_sparse else gradient for gradient in given]
        return float(sum(gradient.double().square().sum() for gradient in dense) ** 0.5)

    norms: list[float] = []

    class Clipped(Joint):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            norms.append(norm(self))
            super().configure_gradient_clipping(optimizer, limit)
            norms.append(norm(self))

    train(Clipped(scene), data)
    before, after = norms
    assert 1e-3 < before < 1e3
    assert after == pytest.approx(min(before, limit), rel=1e-2)


def test_rays_of_the_data_set_have_numbers_of_their_own(scene, data):
    module = WarmUp(scene)
    (batch,) = data.batches(1, [(0, 0), (0, 1), (1, 0), (3, 9)])
    ids = jitter(module.scene, batch, CounterNoise(0)).ray_ids
    assert ids.shape == (4, 64)
    assert len(ids.unique()) == 4 * 64
    (alone,) = data.batches(1, [(3, 9)])
    assert torch.equal(jitter(module.scene, alone, CounterNoise(0)).ray_ids[0], ids[3])
    pixels = torch.tensor([[5, 63]]).expand(4, -1)
    assert torch.equal(jitter(module.scene, batch, CounterNoise(0), pixels).ray_ids, ids[:, [5, 63]])


def test_the_autoencoder_phase_leaves_a_normaliser_and_a_background(tiny_scene, data):
    scene = tiny_scene()
    train(AutoencoderTraining(scene), data, steps=3)
    images = torch.cat([batch.pixels for batch in data.some_training_views(36)])
    latents = scene.encode(images).detach()
    assert ((latents.abs() <= 1).float().mean((0, 2, 3)) > 0.99).all()
    assert (latents.abs().amax((0, 2, 3)) > 0.7).all()
    background = scene.background.clone()
    scene.measure_background()
    assert torch.equal(scene.background, background)


def test_augmentation_mirrors_and_permutes_colours_only(scene, data):
    (batch,) = data.batches(1, [(s, v) for s in range(4) for v in range(10)], batch_size=40)
    changed = AutoencoderTraining._augment(batch, CounterNoise(3))
    kinds = set()
    for image, other in zip(batch.pixels, changed, strict=True):
        found = None
        for mirrored in (False, True):
            for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
                if torch.equal((image.flip(-1) if mirrored else image)[order], other):
                    found = mirrored, tuple(order)
        assert found is not None
        kinds.add(found)
    assert len(kinds) > 6
    assert torch.equal(AutoencoderTraining._augment(batch, CounterNoise(3)), changed)


@pytest.fixture(scope="module")
def real_data(test_data, tmp_path_factory):
    """Rendered vehicles and faces as they lie on the disk."""
    folder = test_data / "rendered" / "transforms"
    if not folder.is_dir():
        pytest.skip(f"no rendered scenes in {folder}: name their folder with SCALED_IG_TEST_DATA")
    out = tmp_path_factory.mktemp("packs") / "real"
    write_pack(TransformsSource(folder), out, render=None)
    return str(out)


@pytest.mark.parametrize("phase", PHASES)
def test_a_step_on_real_files(phase, real_data, tiny_scene):
    data = ShapeNetCars(real_data, stage1_scenes=2, stage2_scenes=2, batch_size=2)
    assert data.index.image_size == (128, 128)
    scene = tiny_scene(num_scenes=2)
    scene.image_size = 128, 128
    images = torch.cat([batch.pixels for batch in data.some_training_views(8)])
    scene.autoencoder.start_from_pca(images)
    with torch.no_grad():
        scene.autoencoder.measure_range(scene.autoencoder.encode(images))
    scene.measure_background()
    before = copy.deepcopy(parameters(scene))
    trainer = train(phase(scene), data)
    assert trainer.callback_metrics["train/total"].isfinite()
    for part in TRAINED[phase]:
        assert any(not torch.equal(a, b) for a, b in zip(parameters(scene)[part], before[part], strict=True)), part
