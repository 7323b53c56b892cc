"""A described model can be built again."""

import copy
import json

import pytest
import torch

from scaled_ig.autoencoders import IdentityAutoencoder, KLAutoencoder, SmallAutoencoder
from scaled_ig.bank.description import build, describe
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.rendering.sampling import FullRay, InsideBall
from scaled_ig.representations import MicroMacro, TriPlanes
from scaled_ig.scene_model import SceneModel

REPRESENTATIONS = (
    MicroMacro(2, 3, 4, 5, 0.5, "xy-xz-zx", 0.1, 0.2, 7),
    MicroMacro(0, 3, plane_resolution=5),
    TriPlanes(3, 5, 0.7, "xy-xz-zx", 0.3),
)
AUTOENCODERS = (SmallAutoencoder(8, 6, 16, 1), IdentityAutoencoder())
SAMPLINGS = (InsideBall(7, 0.4), FullRay(5, 3, 0.4, 1.9))


@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("autoencoder", AUTOENCODERS, ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("own_heads", [False, True], ids=["one head", "own heads"])
@torch.no_grad()
def test_a_built_model_with_the_same_weights_renders_the_same(representation, autoencoder, sampling, own_heads):
    representation = copy.deepcopy(representation)
    representation.new_scenes(2)
    options = {"hidden_channels": 32, "resolution": 16, "own_heads": own_heads}
    scene = SceneModel(representation, autoencoder, sampling, **options)
    description = describe(scene)
    again = build(json.loads(json.dumps(description)))
    assert describe(again) == description
    again.representation.new_scenes(2)
    again.load_state_dict(scene.state_dict())
    cameras, index = orbit(2), torch.tensor([1, 0])
    assert torch.equal(again.render_image(cameras, index), scene.render_image(cameras, index))


def test_a_kl_autoencoder_is_built_without_its_weights():
    pytest.importorskip("diffusers")
    config = {"block_out_channels": [8, 16], "norm_num_groups": 4, "latent_channels": 2}
    config |= {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    scene = SceneModel(TriPlanes(3, 5), KLAutoencoder(config=config), InsideBall(), resolution=16)
    again = build(json.loads(json.dumps(describe(scene))))
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (scene, again)]
    assert shapes[0] == shapes[1]
    assert again.autoencoder.downsampling == 2


@pytest.mark.parametrize(
    "resolution", [[16], [16, 16, 16], [16, "16"], "16", 0, [16, -16], [1.5, 16], None, {}], ids=str
)
def test_sizes_that_are_none_are_refused(resolution):
    description = describe(SceneModel(TriPlanes(3, 5), IdentityAutoencoder(), InsideBall(), resolution=16))
    with pytest.raises(UsageError):
        build(description | {"resolution": resolution})


def test_a_class_of_another_version_is_named():
    scene = SceneModel(TriPlanes(3, 5), IdentityAutoencoder(), InsideBall(), resolution=16)
    description = describe(scene)
    description["representation"]["class"] = "HashGrid"
    with pytest.raises(ValueError, match="SceneRepresentation 'HashGrid' is unknown to this version"):
        build(description)
