"""``scaled-ig test``: the quality of a run on views that it has never seen."""

# ruff: noqa: PT028 - a verb by this name, no test function

from __future__ import annotations

from typing import Any, Literal

from scaled_ig.ranges import Count, Seed, checked

QUANTITIES = {
    "num_scenes": "scenes",
    "num_views": "views",
    "psnr": "PSNR dB",
    "psnr_pooled": "pooled PSNR dB",
    "psnr_small": "small decoder dB",
    "ssim": "SSIM",
    "ssim_signed": "SSIM of [-1, 1]",
    "lpips": "LPIPS",
    "latent_psnr": "latent dB",
    "autoencoder_psnr": "autoencoder dB",
    "stage1_autoencoder_psnr": "that of stage 1, dB",
    "nearest_view_psnr": "nearest view dB",
    "rgb_triplanes_psnr": "RGB tri-planes dB",
}
WORST = 5


@checked
def test(
    run: str,
    *,
    scenes: str = "all",
    seed: Seed = 0,
    batch_size: Count = 32,
    pack: str | None = None,
    lpips: Literal["auto", "require", "off", "download"] = "auto",
    lpips_weights: str | None = None,
    rgb: str | None = None,
) -> int:
    """Renders the test views of a run's scenes, measures them, and writes its metrics.json and metrics.csv.

    Those are of all scenes. Numbers of a draw, such as the papers' 10 scenes of stage 1 and 40 of stage 2, go into
    files of their own, ``metrics_10+40_seed0.json`` and ``.csv``, and leave the others as they are. Started by
    torchrun, every process measures a part of the scenes, and the first writes. Neither the number of processes nor the
    batch size changes a number beyond the rounding of float32 sums.

    Examples:
        scaled-ig test runs/mine
        scaled-ig test runs/mine --scenes 10+40 --seed 1

    Args:
        run: Folder of a run.
        scenes: ``all``, or how many of stage 1 and of stage 2, drawn by the seed: ``10+40``, ``0+all``.
        seed: Of the draw; the same draw for all runs with the same data settings.
        batch_size: Views that are rendered and decoded at once.
        pack: Folder of the pack, if it is no longer where the run read it.
        lpips: What to do where the weights of LPIPS are not on this machine: go on without (``auto``), stop
            (``require``), or fetch them (``download``); ``off`` does not measure it.
        lpips_weights: File of the AlexNet backbone of LPIPS.
        rgb: Run of RGB tri-planes on the same stage-2 scenes, whose PSNR is put beside.

    Returns:
        Exit code 0.

    Raises:
        UsageError: The run has no scenes yet, or fewer than asked for, the pack is gone or has changed, LPIPS is
            required and not here, or the RGB run has other scenes.
    """
    from scaled_ig.commands import say_next
    from scaled_ig.metrics.evaluation import over_scenes
    from scaled_ig.metrics.images import load_lpips
    from scaled_ig.runs.measuring import choose_scenes, measure_scenes, ranks
    from scaled_ig.runs.outcomes import with_quality
    from scaled_ig.runs.record import RunRecord

    record = RunRecord.open(run, measured=False)
    data = record.open_data(pack)
    rival = RunRecord.open(rgb) if rgb else None
    if rival is not None:
        record.check_same_scenes(rival)
    chosen = choose_scenes(record, scenes, seed)
    metric = load_lpips(lpips, lpips_weights, min(data.index.image_size))
    with ranks() as (rank, _):
        measured = measure_scenes(record, data, chosen, batch_size, metric)
    if rank:
        return 0
    metrics, name, ids = record.metrics, "metrics", {scene.id for scene in chosen}
    if scenes != "all":
        known = [scene for scene in metrics.get("scenes", []) if scene["id"] in ids]
        metrics, name = {"drawn": {"scenes": scenes, "seed": seed}, "scenes": known}, f"metrics_{scenes}_seed{seed}"
    for stage, records in measured.items():
        metrics = with_quality(metrics, data, stage, records, kept=("nearest_view_psnr", "stage1_autoencoder_psnr"))
    if rival is not None and "s2" in metrics:
        theirs = [scene for scene in rival.scenes(2) if scene["id"] in ids]
        metrics["s2"]["rgb_triplanes_psnr"] = over_scenes(theirs).get("psnr")
    record.folder.write_metrics(metrics, name)
    print(_table(metrics))
    print(f"wrote {record.folder.path / name}.json and .csv, with the protocol")
    say_next("report", run)
    return 0


def _table(metrics: dict[str, Any]) -> str:
    """Lines of aligned text: a row a quantity, a column a split, mean ± standard deviation; then the worst scenes."""
    splits = [name for name in ("s1", "s2", "all") if name in metrics]
    width = max(map(len, QUANTITIES.values()))
    lines = [" " * width + "".join(f"{name.upper():>18}" for name in splits)]
    for name, title in QUANTITIES.items():
        lines.append(f"{title:<{width}}" + "".join(f"{_number(name, metrics[split]):>18}" for split in splits))
    lines += ["", "worst scenes by PSNR, dB"]
    for scene in sorted(metrics["scenes"], key=lambda scene: scene["psnr"])[:WORST]:
        lines.append(f"S{scene['stage']}  {scene['psnr']:6.2f}  {scene['id']}")
    return "\n".join(lines)


def _number(name: str, means: dict[str, Any]) -> str:
    value, spread = means.get(name), means.get(f"{name}_std")
    if value is None:
        return "–"
    digits = 0 if name.startswith("num_") else 2 if "psnr" in name else 4
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
