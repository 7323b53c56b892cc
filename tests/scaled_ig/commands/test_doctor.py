"""What is on this machine is said without a fetch, and without a failure."""

from pathlib import Path

from scaled_ig import native


def test_it_says_what_is_here(run_scaled_ig, tmp_path, monkeypatch):
    (tmp_path / "data_modules").mkdir()
    (tmp_path / "data_modules" / "__init__.py").touch()
    (tmp_path / "hub/models--stable-diffusion-v1-5--stable-diffusion-v1-5/snapshots/1/vae").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints/alexnet-owt-7be5be79.pth").touch()
    monkeypatch.chdir(tmp_path)
    places = {"HF_HUB_CACHE": str(tmp_path / "hub"), "TORCH_HOME": str(tmp_path / "torch")}
    status, said = run_scaled_ig("doctor", **places)
    assert status == 0, said
    assert "! the folder data_modules here hides the package of that name" in said
    assert f"LPIPS: {tmp_path}/torch/hub/checkpoints/alexnet" in said
    assert f"Stable Diffusion's autoencoder: {tmp_path}/hub" in said
    assert ("processor: compiled C" in said) == native.works()
    assert "WANDB_MODE is offline" in said
    status, said = run_scaled_ig("doctor", HF_HUB_CACHE=str(tmp_path / "none"), TORCH_HOME=str(tmp_path / "none"))
    assert status == 0
    assert "! LPIPS is not measured" in said
    assert "! Stable Diffusion's autoencoder stable-diffusion-v1-5/stable-diffusion-v1-5 is not here" in said
    assert not (Path(tmp_path) / "none").exists(), "nothing is fetched"
