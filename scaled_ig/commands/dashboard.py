"""``scaled-ig dashboard``: a view of Weights & Biases that shows the runs of a table at a glance."""

from __future__ import annotations

from typing import Any

from scaled_ig.errors import UsageError

BY_HAND = "docs/wandb.md says how to lay out such a view by hand"


def dashboard(*, group: str = "ablations-demo", project: str = "scaled-ig", entity: str | None = None) -> int:
    """Saves a view in Weights & Biases, in which the runs of a table stand beside each other.

    It shows the quality and the cost of every row as bars, quality against training time, and the rows' scenes. W&B
    keeps views on its server alone: this needs a key and a network, and that the runs are there (``wandb sync``).

    Examples:
        scaled-ig dashboard
        scaled-ig dashboard --group baselines-demo

    Args:
        group: Group of the runs: ablations, baselines or latent-spaces, with -demo or -paper, after make's targets.
        project: W&B project of the runs.
        entity: W&B user or team; that of the key unless given.

    Returns:
        Exit code 0.

    Raises:
        UsageError: There is no key, no network, or no such project.
    """
    try:
        import wandb
        import wandb_workspaces.workspaces  # noqa: F401 - said here, rather than after W&B was asked
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is missing: pip install 'scaled-ig[dashboard]'") from None
    from scaled_ig.callbacks.run_logger import has_key

    if not has_key():
        raise UsageError(f"W&B has no key here, and keeps views on its server alone: wandb login; or {BY_HAND}")
    try:
        view = lay_out(group, project, entity or str(wandb.Api().default_entity)).save()
    except (wandb.errors.Error, OSError, ValueError) as error:
        raise UsageError(f"W&B did not take the view ({str(error)[:200]}): {BY_HAND}") from None
    print(view.url)
    return 0


def lay_out(group: str, project: str, entity: str) -> Any:
    """The view of a group, a ``Workspace``: a section for each question, runs of a row under one name."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.expr import Metric

    def against(x: str, y: str, title: str) -> wr.LinePlot:
        return wr.LinePlot(title=title, x=x, y=[y])

    def bars(metric: str, title: str) -> wr.BarPlot:
        return wr.BarPlot(title=title, metrics=[metric], orientation="h")

    sections = [
        ws.Section(
            name="Which row is best?",
            is_open=True,
            panels=[
                bars("quality/s2/psnr", "PSNR of unseen views, dB"),
                bars("quality/s2/ssim", "SSIM"),
                wr.ScatterPlot(title="PSNR against seconds a scene", x="cost/seconds_per_scene", y="quality/s2/psnr"),
                wr.ScatterPlot(title="PSNR against bytes a scene", x="cost/bytes_per_scene", y="quality/s2/psnr"),
            ],
        ),
        ws.Section(
            name="How does it get there?",
            is_open=True,
            panels=[
                against("axes/seconds", "val/psnr", "PSNR of watched views against training seconds"),
                against("axes/images", "val/psnr", "PSNR of watched views against views seen"),
                against("trainer/global_step", "train/total", "loss"),
            ],
        ),
        ws.Section(
            name="What does it cost?",
            is_open=True,
            panels=[
                bars("cost/seconds_per_scene", "seconds a scene"),
                bars("cost/bytes_per_scene", "bytes a scene"),
                bars("cost/peak_mebibytes", "peak memory, MiB"),
                bars("cost/milliseconds_render", "ms to render a view"),
            ],
        ),
        ws.Section(
            name="What does it look like?",
            is_open=True,
            panels=[
                wr.MediaBrowser(title="views", media_keys=["pictures/grid"]),
                wr.MediaBrowser(title="orbits", media_keys=["pictures/orbit"]),
                wr.WeavePanelSummaryTable(table_name="scenes/stage2"),
            ],
        ),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=group,
        sections=sections,
        runset_settings=ws.RunsetSettings(
            filters=[Metric("Group") == group],
            groupby=[Metric("JobType")],  # which panels follow
            pinned_columns=[
                "run:displayName",
                "run:jobType",
                "summary:quality/s2/psnr",
                "summary:cost/seconds_per_scene",
            ],
        ),
        auto_generate_panels=False,
    )
