"""``scaled-ig test``: the quality of a run on views that it has never seen."""

# ruff: noqa: PT028 - a verb by this name, no test function

from __future__ import annotations

from typing import Any, Literal

QUANTITIES = {
    "num_scenes": "scenes",
    "num_views": "views",
    "psnr": "PSNR dB",
    "psnr_small": "small decoder dB",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "latent_psnr": "latent dB",
    "autoencoder_psnr": "autoencoder dB",
    "nearest_view_psnr": "nearest view dB",
    "rgb_triplanes_psnr": "RGB tri-planes dB",
}


def test(
    run: str,
    *,
    pack: str | None = None,
    lpips: Literal["auto", "require", "off"] = "auto",
    lpips_weights: str | None = None,
    rgb: str | None = None,
) -> int:
    """Renders the test views of all scenes of a run, measures them, and writes its metrics.json and metrics.csv.

    Args:
        run: Folder of a run.
        pack: Folder of the pack, if it is no longer where the run read it.
        lpips: What to do where the weights of LPIPS are not on this machine: go on without, or stop.
        lpips_weights: File of the AlexNet backbone of LPIPS.
        rgb: Run of RGB tri-planes on the same stage-2 scenes, whose PSNR is put beside.

    Returns:
        Exit code 0.

    Raises:
        UsageError: The run has no scenes yet, the pack is gone or has changed, LPIPS is required and not here, or the
            RGB run has other scenes.
    """
    import torch
    from tqdm import tqdm

    from scaled_ig.commands.results import with_quality
    from scaled_ig.evaluation import evaluate, per_scene
    from scaled_ig.metrics import load_lpips
    from scaled_ig.report.record import RunRecord

    record = RunRecord.open(run, measured=False)
    data = record.open_data(pack)
    rival = RunRecord.open(rgb) if rgb else None
    if rival is not None:
        record.check_same_scenes(rival)
    metric = load_lpips(lpips, lpips_weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    metrics = record.metrics
    for stage in record.learned_stages():
        place = {name: scene for scene, name in enumerate(data.scene_ids(stage))}
        splits = data.split(stage, "test")
        for version in record.versions(stage):  # one after another: all of them may be more than memory holds
            ids = [scene.id for scene in record.bank.scenes(version)]
            model = record.bank.load_version(version).to(device)
            with tqdm(total=sum(len(splits[place[name]]) for name in ids), desc=version, unit="view") as bar:
                views = _counted(data.views_of(stage, ids, "test"), bar)
                measured = per_scene(evaluate(model, views, metric))
            measured = [scene | {"scene": place[ids[scene["scene"]]]} for scene in measured]
            metrics = with_quality(metrics, data, stage, measured)
    if rival is not None and "s2" in metrics:
        metrics["s2"]["rgb_triplanes_psnr"] = rival.metrics.get("s2", {}).get("psnr")
    record.folder.write_metrics(metrics)
    print(_table(metrics))
    return 0


def _counted(batches, bar):
    """The batches; each moves the bar once it has been measured."""
    for batch in batches:
        yield batch
        bar.update(len(batch))


def _table(metrics: dict[str, Any]) -> str:
    """Lines of aligned text: a row a quantity, a column a split."""
    splits = [name for name in ("s1", "s2") if name in metrics]
    width = max(map(len, QUANTITIES.values()))
    lines = [" " * width + "".join(f"{name.upper():>10}" for name in splits)]
    for name, title in QUANTITIES.items():
        lines.append(
            f"{title:<{width}}" + "".join(f"{_number(name, metrics[split].get(name)):>10}" for split in splits)
        )
    return "\n".join(lines)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if name.startswith("num_") else f"{value:.{2 if 'psnr' in name else 4}f}"
