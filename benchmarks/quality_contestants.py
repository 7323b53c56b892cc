"""The runs of benchmarks/quality.py: which configurations, over which, on which scenes, for how many steps."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.quality_scenes import MANY

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
STAGE1 = ("autoencoder", "warm_up", "joint")
STAGE2 = ("latent_supervision", "rgb_alignment")
CONTESTANTS = {  # configurations over recipes/latent.yaml
    "latent Micro-Macro": (),
    "latent F = 10": ("frontier/latent_micro.yaml",),
    "latent F = 32": ("frontier/latent_f32.yaml",),
    "RGB Micro-Macro": ("demo/rgb.yaml", "frontier/rgb_micro_macro.yaml"),
    "RGB F = 32": ("demo/rgb.yaml",),
    "RGB F = 10": ("demo/rgb.yaml", "frontier/rgb_f10.yaml"),
}
FIVE = ("RGB Micro-Macro", "RGB F = 32", "RGB F = 10", "latent Micro-Macro", "latent F = 10")
RGB_STAGE1_STEPS = 600  # of 8 views, 512 rays each
RGB_STEPS = 1900  # of 16 views, 256 rays each; a run of length 1
LATENT_STEPS = {"latent_supervision": 250, "rgb_alignment": 400}  # of 16 views; likewise
SAMPLING: dict[str, dict[str, Any]] = {
    **{f"ball {n}": {"class_path": "InsideBall", "init_args": {"num_samples": n}} for n in (8, 12, 16, 24, 32, 48)},
    **{
        f"full ray {first}+{second}": {
            "class_path": "FullRay",
            "init_args": {"num_stratified": first, "num_importance": second},
        }
        for first, second in ((48, 0), (24, 24), (48, 48))
    },
}


@dataclass(frozen=True)
class Run:
    """One call of ``scaled-ig fit``.

    Args:
        group: What it is for: ``stage 1``, ``frontier``, ``sampling``, ``views``, ``few views`` or ``many scenes``.
        pack: ``vehicles`` or ``faces``.
        contestant: Key of :data:`CONTESTANTS`.
        variant: What it changes: start, rays, sampling.
        configs: Files over recipes/latent.yaml, in ``experiments``.
        options: Further settings, by dotted name.
        stage1: Name of the run that it starts from; None where it is a stage 1.
        length: Factor on the steps of the configuration.
        step: Name of its kind of step; runs of one kind cost the same.
    """

    group: str
    pack: str
    contestant: str
    variant: str
    configs: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    stage1: str | None = None
    length: float = 1.0
    step: str = ""

    @property
    def name(self) -> str:
        """Unique; a folder."""
        words = (self.pack, self.group, self.contestant, self.variant, f"{self.length:g}")
        return "/".join(re.sub(r"[^\w.+-]+", "_", word) for word in words)

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return json.loads(json.dumps(asdict(self)))

    def arguments(self, both_stages: bool = False) -> list[str]:
        """Of ``scaled-ig fit``, but for pack, scenes and folders.

        Args:
            both_stages: Leave the phases of the other stage in.
        """
        configuration = merged(self.configs)
        lengths = {name: phase["max_steps"] for name, phase in configuration["phases"].items() if phase is not None}
        if self.contestant.startswith("RGB") and self.variant.partition(", ")[2] != "whole images":
            lengths["latent_supervision"] = RGB_STEPS
        elif not self.contestant.startswith("RGB"):
            lengths |= LATENT_STEPS
        given: dict[str, Any] = {"scene.sampling": SAMPLING["ball 16"]}
        for name, steps in lengths.items():
            if (name in STAGE1) != (self.stage1 is None):
                given |= {} if both_stages else {f"phases.{name}": None}
            elif self.stage1 is not None:
                given[f"phases.{name}.max_steps"] = math.ceil(steps * self.length)
        given |= self.options
        configs = [f"--config={EXPERIMENTS / name}" for name in ("recipes/latent.yaml", *self.configs)]
        return configs + [f"--{name}={json.dumps(value)}" for name, value in given.items()]


def merged(configs: tuple[str, ...]) -> dict[str, Any]:
    """Content of recipes/latent.yaml with the files over it, but for changes of class."""

    def over(below: Any, above: Any) -> Any:
        if not isinstance(below, dict) or not isinstance(above, dict):
            return above
        return below | {key: over(below.get(key), value) for key, value in above.items()}

    content: dict[str, Any] = {}
    for name in ("recipes/latent.yaml", *configs):
        content = over(content, yaml.safe_load((EXPERIMENTS / name).read_text()))
    return content


def arguments(run: Run, pack: Path, lists: dict[str, Path], both_stages: bool = False) -> list[str]:
    """Of ``scaled-ig fit``, but for its folders; see :meth:`Run.arguments`."""
    many = MANY in (run.stage1 or run.variant).split("/")
    chosen = {"stage1_scenes": lists[MANY if many else "few"], "stage2_scenes": lists["stage2"]}
    given = [f"--data.{stage}={json.dumps({'file': str(path)})}" for stage, path in chosen.items()]
    watched = [] if "data.val_fraction" in run.options else ["--data.val_fraction=0"]
    return [
        *run.arguments(both_stages),
        f"--data.path={pack}",
        *given,
        *watched,
        "--eval_every_n_steps=0",
        "--lpips=off",
    ]


def _stage1(pack: str, contestant: str, variant: str = "few", **options: Any) -> Run:
    rgb = {"phases.warm_up.max_steps": RGB_STAGE1_STEPS} if contestant.startswith("RGB") else {}
    bases = options.get("scene.representation.init_args.num_bases")
    kind = f"{contestant}, {bases} bases" if bases else contestant
    kind += ", extent 1" if "extent" in variant else ""
    return Run("stage 1", pack, contestant, variant, CONTESTANTS[contestant], rgb | options, step=kind)


def _stage2(
    group: str,
    prior: Run,
    variant: str,
    length: float,
    configs: tuple[str, ...] = (),
    step: str = "",
    **options: Any,
) -> Run:
    kind = prior.contestant if not step else f"{prior.contestant}, {step}"
    own = {name: value for name, value in prior.options.items() if name.startswith("scene.")} | options
    return Run(group, prior.pack, prior.contestant, variant, prior.configs + configs, own, prior.name, length, kind)


MEAN = "mean start"
SCRATCH, WHOLE = ("frontier/from_scratch.yaml",), ("frontier/whole_images.yaml",)


def frontier(pack: str, contestants: tuple[str, ...]) -> Iterator[Run]:
    """Short and long; plain RGB tri-planes also from scratch, and on whole images. Faces get less of it."""
    thorough = pack == "vehicles"
    for contestant in contestants:
        rgb = contestant.startswith("RGB")
        prior = _stage1(pack, contestant, **({} if rgb or thorough else {"phases.joint.max_steps": 200}))
        yield prior
        for length in (0.15, 0.5) if rgb else (0.25, 1.0) if thorough else (0.5,):
            yield _stage2("frontier", prior, MEAN, length)
            if contestant.startswith("RGB F") and (thorough or length > 0.15):
                yield _stage2("frontier", prior, "from scratch", length, SCRATCH)
        if contestant == "RGB F = 32":
            yield _stage2("frontier", prior, f"{MEAN}, whole images", 0.5, WHOLE, "whole images")
            if thorough:
                yield _stage2("frontier", prior, "from scratch, whole images", 0.5, SCRATCH + WHOLE, "whole images")


def finer_rays(pack: str) -> Iterator[Run]:
    """Twice the samples."""
    for contestant, length in (("RGB F = 32", 0.5), ("RGB F = 10", 0.5), ("latent Micro-Macro", 1.0)):
        plan = {"scene.sampling": SAMPLING["ball 32"]}
        yield _stage2("frontier", _stage1(pack, contestant), f"{MEAN}, 32 samples", length, (), "ball 32", **plan)


def sampling(pack: str) -> Iterator[Run]:
    """Latent supervision and random RGB rays with other samples, short; some again with another seed, for the noise."""
    prior, rgb = next(frontier(pack, ("latent Micro-Macro",))), _stage1(pack, "RGB F = 10")
    for name in filter(_is_ball, SAMPLING):
        yield _sampled(prior, name, 0.3)
    for name in ("ball 8", "ball 16", "ball 32"):
        yield _sampled(rgb, name, 0.15)
    for name in ("ball 12", "ball 16", "ball 24"):
        yield _sampled(prior, name, 0.3, ", seed 1", {"seed_everything": 1, "data.seed": 1})


def whole_rays(pack: str) -> Iterator[Run]:
    """The papers' samples, for which nothing is known of where objects are."""
    prior = next(frontier(pack, ("latent Micro-Macro",)))
    for name in SAMPLING:
        if not _is_ball(name):
            yield _sampled(prior, name, 0.3)


def _is_ball(plan: str) -> bool:
    return plan.startswith("ball")


def wide_cube(pack: str) -> Iterator[Run]:
    """Planes over [-1, 1]³ as in the papers: texels of the same size, four times as many."""
    large = {"scene.representation.init_args.extent": 1.0, "scene.representation.init_args.plane_resolution": 64}
    prior = _stage1(pack, "RGB F = 10", "few, extent 1", **large)
    yield prior
    yield _sampled(prior, "ball 16", 0.15, ", extent 1")


def _sampled(prior: Run, plan: str, length: float, suffix: str = "", options: dict[str, Any] | None = None) -> Run:
    alone: dict[str, Any] = {} if prior.contestant.startswith("RGB") else {"phases.rgb_alignment": None}
    kind = f"{plan}, extent 1" if "extent" in suffix else "" if plan == "ball 16" else plan
    own = {"scene.sampling": SAMPLING[plan]} | alone | (options or {})
    return _stage2("sampling", prior, plan + suffix, length, (), kind, **own)


def views_per_scene(pack: str) -> Iterator[Run]:
    """As many views of a step from fewer scenes."""
    latent, rgb = _stage1(pack, "latent Micro-Macro"), _stage1(pack, "RGB F = 10")
    for prior, length in ((latent, 0.3), (rgb, 0.15)):
        alone = {"phases.rgb_alignment": None} if prior is latent else {}
        for count in (1, 2, 4, 8):
            own = {"phases.latent_supervision.views_per_scene": count}
            name = f"{count} views of a scene"
            yield _stage2("views", prior, name, length, (), name if count > 1 else "", **own, **alone)


def few_views(pack: str, val_fraction: float) -> Iterator[Run]:
    """6 training views a scene in stage 2."""
    for contestant in FIVE:
        prior, own = _stage1(pack, contestant), {"data.val_fraction": val_fraction}
        length = 0.3 if contestant.startswith("RGB") else 0.5
        yield _stage2("few views", prior, MEAN, length, **own)
        if contestant.startswith("RGB F"):
            yield _stage2("few views", prior, "from scratch", length, SCRATCH, **own)


def many_scenes(pack: str, contestants: tuple[str, ...]) -> Iterator[Run]:
    """As many scenes of stage 1 as the pack gives, for those who learn something from them."""
    for contestant in contestants:
        own: dict[str, Any] = {"scene.representation.init_args.num_bases": 30} if "Macro" in contestant else {}
        if contestant.startswith("RGB"):
            own["phases.warm_up.max_steps"] = 3 * RGB_STAGE1_STEPS
        else:
            own |= {"phases.warm_up.max_steps": 300, "phases.joint.max_steps": 1000}
        prior = _stage1(pack, contestant, MANY, **own)
        yield prior
        for length in (0.15, 0.5) if contestant.startswith("RGB") else (0.25, 1.0):
            yield _stage2("many scenes", prior, MEAN, length, (), "30 bases" if "Macro" in contestant else "")
