"""The page of runs of every kind: it leaves out what a run does not have."""

import re

import pytest

from scaled_ig.commands.report import report
from tests.conftest import TINY_RUN

HEAD = TINY_RUN.partition("phases:")[0]
STAGE1 = "phases: {autoencoder: {module: AutoencoderTraining, max_steps: 2}, joint: {module: Joint, max_steps: 2}}"
STAGE2 = "phases: {latent_supervision: {module: LatentSupervision, max_steps: 2}}"
REPRESENTATION = re.compile(r"  representation:.*?(?=  sampling)", re.DOTALL)
BASELINES = {
    "VanillaNerf": "{depth: 3, width: 8, skip: 1, frequencies: 2}",
    "InstantNgp": "{levels: 2, log2_table_size: 6, coarsest: 4, finest: 8, density_resolution: 8}",
    "KPlanes": "{channels: 4, resolution: 8, scales: [1, 2]}",
    "TensoRF": "{density_components: 2, appearance_components: 3, appearance_channels: 4, resolution: 8}",
}


@pytest.fixture
def page_of(tmp_path, tiny_pack, run_scaled_ig):
    """Trains what a configuration says, and gives its folder and the headings of its page."""

    def make(text, name="run", *words):
        config = tmp_path / f"{name}.yaml"
        config.write_text(text)
        call = "fit", "--config", config, "--data.path", tiny_pack, "--run_dir", tmp_path / name, *words
        status, output = run_scaled_ig(*call)
        assert status == 0, output[-2000:]
        assert report(str(tmp_path / name)) == 0
        page = (tmp_path / name / "report.html").read_text()
        return tmp_path / name, re.findall("<h2>(.*?)</h2>", page)

    return make


@pytest.mark.slow("a run of each kind")
@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_has_neither_latents_nor_bases(page_of, kind):
    other = f"  representation: {{class_path: {kind}, init_args: {BASELINES[kind]}}}\n  own_heads: true\n"
    text = REPRESENTATION.sub(f"{other}  autoencoder: {{class_path: IdentityAutoencoder}}\n", HEAD)
    text = text.replace("stage1_scenes: 4", "stage1_scenes: 0").replace("scene_mean: true", "scene_mean: false")
    _, titles = page_of(text + STAGE2)
    assert titles == ["Orbits", "Unseen views", "Scenes", "Quality", "Training", "Stage 2", "Costs", "Repeat it"]


@pytest.mark.slow("two runs")
def test_stages_in_two_folders_have_a_page_each(page_of):
    first, titles = page_of(HEAD + STAGE1, "first")
    assert "Stage 2" not in titles
    _, titles = page_of(HEAD + STAGE2, "second", "--init_from", str(first))
    assert "Stage 2" in titles
    assert "What bases learn" in titles
