"""The papers' constants: relations between tables, which typing mistakes break, and sizes of real networks."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.report import papers
from scaled_ig.report.cost_table import markdown_lines
from scaled_ig.representations import MicroMacro, TriPlanes

STABLE_DIFFUSION = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
}


def floats(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("whole", "stages"), [("cars", papers.TABLE_5), ("faces", papers.TABLE_6)])
def test_table_1_is_ten_scenes_of_stage_1_and_forty_of_stage_2(whole, stages):
    for name, row in papers.TABLE_1[whole].items():
        for key, tolerance in (("psnr", 0.01), ("ssim", 1.01e-4), ("lpips", 1.01e-4)):
            mixed = 0.2 * stages[1][name][key] + 0.8 * stages[2][name][key]
            assert row[key] == pytest.approx(mixed, abs=tolerance)


def test_tables_agree_with_each_other():
    for name, row in papers.TABLE_1["cars"].items():
        assert (papers.TABLE_3[name].psnr, papers.TABLE_3[name].ssim) == (row["psnr"], row["ssim"])
    ours, rgb = papers.WORKSHOP_TABLE_1["Ours"], papers.WORKSHOP_TABLE_1["Tri-Planes (RGB)"]
    assert round(100 * (1 - ours.effective_minutes / rgb.minutes)) == 86
    assert round(100 * (1 - ours.effective_megabytes / rgb.megabytes)) == 44
    assert {name for name, row in papers.TABLE_4.items() if not row.has_moments} == {"Tri-Planes", "Ours"}


def test_sizes_are_those_of_the_networks():
    with torch.device("meta"):
        autoencoder = AutoencoderKL(**STABLE_DIFFUSION)
        head, rgb_head = FieldHead(32, 4), FieldHead(32, 3)
    scenes, rgb = MicroMacro(10, 22, num_bases=50, plane_resolution=64), TriPlanes(32, 64)
    assert 4 * (floats(autoencoder.encoder) + floats(autoencoder.quant_conv)) == papers.ENCODER
    assert 4 * (floats(autoencoder.decoder) + floats(autoencoder.post_quant_conv)) == papers.DECODER
    assert (4 * floats(head), 4 * floats(rgb_head)) == (papers.HEAD, papers.RGB_HEAD)
    assert 4 * scenes.bases.numel() == papers.BASES
    sizes = {name: 4 * torch.Size(table.row_shape).numel() for name, table in scenes.scene_tables().items()}
    assert sizes == papers.SCENE_BYTES
    assert 4 * torch.Size(rgb.micro.row_shape).numel() == papers.RGB_SCENE_BYTES


def test_corrections():
    assert papers.BYTES.once / 1e6 == pytest.approx(334.6 + 54.1 + 245.8, abs=0.2)  # not 361
    assert papers.BYTES.at(2000) / 1e6 == pytest.approx(388.7 + 2000 * 0.49172, abs=0.2)
    assert papers.RGB_MEGABYTES.each == papers.RGB_SCENE_BYTES / 2**20  # its "MB" are MiB
    for name in ("Vanilla-NeRF", "TensoRF", "K-Planes"):
        row = papers.TABLE_4[name]
        assert row.weight_bytes() == pytest.approx(row.megabytes * 1e3 * 2**20 / 3)
    grid = papers.TABLE_4["Instant-NGP"]  # a third of what has moments, and the occupancy that has none
    assert 3 * grid.weight_bytes() - 2 * 40 * 2**20 * 2000 == pytest.approx(grid.megabytes * 1e3 * 2**20)


def test_both_accountings_stand_beside_each_other():
    lines = {line[0]: line[1:] for line in papers.accounting()}
    assert all(len(line) == len(papers.ACCOUNTING) - 1 for line in lines.values())
    assert lines["t(2000), ours, 10³ min"][:2] == ["5.22", "5.22"]
    assert lines["m(2000), ours, 10³ MB"][:2] == ["1.08", "1.08"]
    assert lines["m1, MB"][0] == "361"
    assert float(lines["m1, MB"][2]) == pytest.approx(634.5, abs=0.2)
    assert lines["time saved per scene"][:2] == ["86%", "86%"]
    assert lines["memory saved per scene"][:2] == ["68%", "68%"]


def test_the_page_has_them_as_they_are():
    page = (Path(__file__).parents[3] / "docs/costs.md").read_text()
    assert markdown_lines(papers.ACCOUNTING, papers.accounting()) in page
