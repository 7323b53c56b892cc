"""What a phase leaves in the run folder: scenes, quality, costs."""

from __future__ import annotations

from typing import Any

from data_modules.base import MultiViewDataModule
from data_modules.layout import read_scene_digests
from scaled_ig.callbacks.cost import peak_mebibytes
from scaled_ig.cost import bytes_per_scene, describe_machine, milliseconds_per_image, shared_bytes
from scaled_ig.evaluation import PROTOCOL, over_scenes
from scaled_ig.run_folder import RunFolder
from scaled_ig.scene_bank import SceneBank
from scaled_ig.scene_model import SceneModel


def keep_scenes(run: RunFolder, scene: SceneModel, data: MultiViewDataModule, phase: str, stage: int) -> None:
    """Write the bank's version ``stage<stage>``. Collective."""
    if phase != "autoencoder":  # it has no scenes yet
        digests = read_scene_digests(data.index, data.scenes(stage))
        SceneBank.write(run.bank, scene, data.scene_ids(stage), f"stage{stage}", digests)


def keep_quality(
    run: RunFolder, data: MultiViewDataModule, phase: str, stage: int, scenes: list[dict[str, Any]], seconds: float
) -> None:
    """Put the test views' quality into ``metrics.json``, in place of this stage's earlier one, and say it.

    Args:
        run: The run.
        data: Its data.
        phase: Name of the phase.
        stage: 1 or 2.
        scenes: Records of :func:`scaled_ig.evaluation.per_scene`.
        seconds: Training time of the phase.
    """
    if phase == "autoencoder":
        return
    ids = data.scene_ids(stage)
    means = over_scenes(scenes)
    metrics = run.read_json("metrics.json") | {"protocol": PROTOCOL, f"s{stage}": means}
    named = [{"id": ids[s["scene"]], "stage": stage} | {k: v for k, v in s.items() if k != "scene"} for s in scenes]
    metrics["scenes"] = [s for s in metrics.get("scenes", []) if s["stage"] != stage] + named
    run.write_json("metrics.json", metrics)
    print(f"{phase}: {means['psnr']:.2f} dB on {means['num_views']} unseen views, {seconds:.1f} s", flush=True)


def keep_costs(
    run: RunFolder, scene: SceneModel, phase: str, stage: int, steps: int, seconds: float, ranks: int
) -> None:
    """Put what the phase cost into ``costs.json``."""
    device, num_scenes = scene.background.device, scene.representation.num_scenes
    costs = run.read_json("costs.json")
    costs.setdefault("phases", {})[phase] = {
        "stage": stage,
        "scenes": num_scenes,
        "steps": steps,
        "seconds": seconds,
        "seconds_per_scene": seconds / num_scenes,
        "peak_mebibytes": peak_mebibytes(),
    }
    costs |= {
        "machine": describe_machine(device) | {"ranks": ranks},
        "bytes_per_scene": bytes_per_scene(scene),
        "shared_bytes": shared_bytes(scene),
        "milliseconds_per_image": milliseconds_per_image(scene),
    }
    run.write_json("costs.json", costs)
