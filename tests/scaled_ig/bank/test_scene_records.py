"""Scenes as bytes: what is kept, what it costs, and what is refused."""

import struct
import zlib

import numpy as np
import pytest
import torch

from scaled_ig.bank.scene_records import ENCODINGS, decode, encode, float32_bytes, record_sha256
from scaled_ig.representations import TriPlanes
from scaled_ig.representations.occupancy import Hulls
from tests.conftest import ball_hulls


def draw(seed: int = 0, resolution: int = 8, channels: int = 5, coefficients: int = 7) -> dict[str, torch.Tensor]:
    """Rows of a scene, whose channels have scales of 1e-3 to 10."""
    generator = torch.Generator().manual_seed(seed)
    planes = torch.randn(3, resolution, resolution, channels, generator=generator)
    scales = 10 ** torch.empty(3, 1, 1, channels).uniform_(-3, 1, generator=generator)
    return {"micro": planes * scales, "mixing": torch.randn(coefficients, generator=generator)}


ROWS, MEAN = draw(), draw(1)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_shapes_and_coefficients_come_back(encoding):
    rows = decode(encode(ROWS, encoding, MEAN), encoding, MEAN)
    assert {name: row.shape for name, row in rows.items()} == {name: row.shape for name, row in ROWS.items()}
    assert {row.dtype for row in rows.values()} == {torch.float32}
    assert torch.equal(rows["mixing"], ROWS["mixing"])


def test_float32_keeps_every_bit():
    bits = torch.tensor([0x7FC00001, 0x7F800000, -0x80000000, 1, 0x3F800001], dtype=torch.int32)
    rows = {"micro": ROWS["micro"].clone(), "mixing": ROWS["mixing"]}
    rows["micro"].view(torch.int32)[0, 0, 0] = bits  # a NaN with a payload, infinity, -0, the smallest number
    again = decode(encode(rows, "float32", MEAN), "float32", MEAN)
    assert torch.equal(again["micro"].view(torch.int32), rows["micro"].view(torch.int32))


def test_bfloat16_is_the_nearest_one():
    rows = decode(encode(ROWS, "bfloat16", MEAN), "bfloat16", MEAN)
    assert torch.equal(rows["micro"], ROWS["micro"].to(torch.bfloat16).float())
    assert not torch.equal(rows["micro"], ROWS["micro"])


@pytest.mark.parametrize(("encoding", "steps"), [("int8", 127), ("int8_difference", 63)])
def test_8_bit_values_are_off_by_half_a_step_at_most(encoding, steps):
    kept = ROWS["micro"] - (MEAN["micro"] if encoding == "int8_difference" else 0)
    step = kept.abs().amax((1, 2), keepdim=True) / steps
    off = (decode(encode(ROWS, encoding, MEAN), encoding, MEAN)["micro"] - ROWS["micro"]).abs()
    rounding = 1e-6 * (ROWS["micro"].abs() + MEAN["micro"].abs())
    assert bool((off <= step / 2 + rounding).all())
    assert float((off / step).max()) > 0.45, "and no finer than it has bytes for"


def test_int8_by_hand():
    """Scale and steps of a plane of one channel in closed form."""
    planes = torch.zeros(3, 2, 2, 1)
    planes[0, :, :, 0] = torch.tensor([[254.0, -254.0], [3.0, 2.9]])
    record = encode({"micro": planes}, "int8", {"micro": planes})
    scales, steps = struct.unpack("<3f", record[:12]), struct.unpack("<12b", record[12:])
    assert scales[0] == 2.0
    assert steps == (127, -127, 2, 1, *[0] * 8)  # 1.5 rounds to the even 2


@pytest.mark.parametrize("encoding", ["int8", "int8_difference"])
@pytest.mark.parametrize("size", [0.0, 1e-44, 3e-39, 1e-30, 1e38])
def test_planes_of_any_size_come_back(encoding, size):
    planes = torch.tensor([1.0, -0.5, 0.25]).reshape(3, 1, 1, 1).expand(3, 2, 2, 1) * size
    mean = {"micro": torch.zeros(3, 2, 2, 1)}
    again = decode(encode({"micro": planes}, encoding, mean), encoding, mean)["micro"]
    torch.testing.assert_close(again, planes, rtol=1e-6, atol=1.2e-38)


def test_sizes_at_the_papers_scale():
    rows = draw(2, 64, 10, 50)
    sizes = {encoding: len(encode(rows, encoding, draw(3, 64, 10, 50))) for encoding in ENCODINGS}
    assert sizes["float32"] == 4 * (3 * 64 * 64 * 10 + 50)
    assert sizes["bfloat16"] == 2 * 3 * 64 * 64 * 10 + 4 * 50
    assert sizes["int8"] == 3 * 64 * 64 * 10 + 4 * 30 + 4 * 50 == 123_200
    assert sizes["int8_difference"] < sizes["int8"], "even of noise"


def test_a_scene_near_the_mean_is_small():
    rows = {name: row + 0.01 * (torch.arange(row.numel()).reshape(row.shape) % 997 == 0) for name, row in MEAN.items()}
    assert len(encode(rows, "int8_difference", MEAN)) < 0.3 * len(encode(rows, "int8", MEAN))


def test_tables_follow_each_other_in_alphabetical_order():
    """Whatever the order in which they are given: a bank's shared file has an order of its own."""
    more = {
        "b": torch.full((2, 2, 2, 1), 2.0),
        "a": torch.full((1, 2, 2, 1), 1.0),
        "z": torch.zeros(1),
        "c": torch.ones(2),
    }
    record = encode(more, "float32", dict(reversed(more.items())))
    assert np.frombuffer(record, "<f4").tolist() == [1, 1, 0, *[1] * 4, *[2] * 8]
    again = decode(record, "float32", more)
    assert all(torch.equal(again[name], row) for name, row in more.items())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_records_of_other_lengths_are_refused(encoding):
    for given in ((ROWS, MEAN, None), (HULLED, HULLED_MEAN, TEXELS)):
        rows, *form = given
        record = encode(rows, encoding, *form)
        for wrong in (record[:-1], record + b"\0", record[:10], b""):
            with pytest.raises(ValueError):  # noqa: PT011 - numpy's own words for some
                decode(wrong, encoding, *form)


def test_a_stream_that_unpacks_to_too_much_is_refused():
    record = encode(ROWS, "int8_difference", MEAN)
    head = record[: 4 * (7 + 15)]
    with pytest.raises(ValueError, match="another length"):
        decode(head + zlib.compress(bytes(10**8)), "int8_difference", MEAN)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("encoding", ["int8", "int8_difference"])
def test_values_that_are_not_finite_are_refused(encoding, value):
    rows = {"micro": ROWS["micro"].clone(), "mixing": ROWS["mixing"]}
    rows["micro"][1, 2, 3, 4] = value
    with pytest.raises(ValueError, match="not finite have no 8-bit encoding"):
        encode(rows, encoding, MEAN)


def test_rows_that_do_not_fit_the_mean_are_refused():
    with pytest.raises(ValueError, match="differ in their names or shapes"):
        encode(ROWS, "float32", {"micro": MEAN["micro"]})


# -- beside a hull ---------------------------------------------------------------------------------------------------

HULL, EVERYTHING = ball_hulls(2, 16)
TEXELS = TriPlanes(5, 8, 0.5).texels
READ = TEXELS(Hulls(HULL[None]))[0]
HULLED, HULLED_MEAN = ROWS | {"hull": HULL}, MEAN | {"hull": EVERYTHING}


def kept_steps(encoding: str, steps: int) -> torch.Tensor:
    """Sizes of the steps [3, 1, 1, F] in which kept texels are kept."""
    kept = HULLED["micro"] - (MEAN["micro"] if encoding == "int8_difference" else 0)
    return (kept * READ[..., None]).abs().amax((1, 2), keepdim=True) / steps


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_hull_comes_back_and_the_texels_that_it_reads(encoding):
    assert 0.1 < READ.float().mean() < 0.7
    again = decode(encode(HULLED, encoding, HULLED_MEAN, TEXELS), encoding, HULLED_MEAN, TEXELS)
    assert again.keys() == HULLED.keys()
    assert torch.equal(again["hull"], HULL)
    assert torch.equal(again["mixing"], ROWS["mixing"])
    assert not again["micro"][~READ].any(), "the others are 0"
    if encoding in ("float32", "bfloat16"):
        whole = decode(encode(ROWS, encoding, MEAN), encoding, MEAN)["micro"]
        assert torch.equal(again["micro"], whole * READ[..., None])
        return
    step = kept_steps(encoding, {"int8": 127, "int8_difference": 47}[encoding])
    off = (again["micro"] - ROWS["micro"]).abs() * READ[..., None]
    assert bool((off <= step / 2 + 1e-6 * (ROWS["micro"].abs() + MEAN["micro"].abs())).all())
    assert float((off / step).max()) > 0.45


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_texels_that_no_hull_reads_change_nothing(encoding, value):
    wild = HULLED | {"micro": torch.where(READ[..., None], HULLED["micro"], value)}
    assert encode(wild, encoding, HULLED_MEAN, TEXELS) == encode(HULLED, encoding, HULLED_MEAN, TEXELS)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_record_is_as_long_as_what_it_keeps(encoding):
    size = len(encode(HULLED, encoding, HULLED_MEAN, TEXELS))
    without = len(encode(ROWS, encoding, MEAN))
    hull, values = size_of_bits(HULL), int(READ.sum()) * 5
    head = 4 * 7 + (4 * 15 if encoding[:4] == "int8" else 0)
    if encoding == "int8_difference":
        assert size < hull + head + values + 30 < without
    else:
        width = {"float32": 4, "bfloat16": 2, "int8": 1}[encoding]
        assert size == hull + head + width * values < without
    assert sum(float32_bytes(HULLED, TEXELS).values()) == len(encode(HULLED, "float32", HULLED_MEAN, TEXELS))


def size_of_bits(hull: torch.Tensor) -> int:
    return float32_bytes({"hull": hull}, TEXELS)["hull"]


@pytest.mark.parametrize("encoding", ["float32", "int8"])
def test_a_scene_without_a_hull_keeps_all_texels(encoding):
    rows = ROWS | {"hull": EVERYTHING}
    record = encode(rows, encoding, HULLED_MEAN, TEXELS)
    assert record.endswith(encode(ROWS, encoding, MEAN))
    assert len(record) - len(encode(ROWS, encoding, MEAN)) < 30
    again = decode(record, encoding, HULLED_MEAN, TEXELS)
    assert torch.equal(again["hull"], EVERYTHING)
    assert torch.equal(again["micro"], decode(encode(ROWS, encoding, MEAN), encoding, MEAN)["micro"])


def test_a_whole_hull_is_small():
    """Of 64³ cells; the hull of a car takes about 1.1 kB."""
    ball, everything = ball_hulls(2)
    assert size_of_bits(everything) < 60
    assert size_of_bits(ball) < 1500


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_scenes_without_planes_keep_all_of_their_values(encoding):
    rows, mean = ({"micro": made["mixing"], "hull": HULL} for made in (ROWS, MEAN))
    again = decode(encode(rows, encoding, mean, lambda hulls: None), encoding, mean, lambda hulls: None)
    assert torch.equal(again["micro"], ROWS["mixing"])
    assert torch.equal(again["hull"], HULL)


def test_steps_that_jump_come_back():
    """What neighbours foretell is farthest off where the largest step follows the smallest one."""
    sign = 1 - 2 * (torch.arange(8)[:, None] + torch.arange(8)) % 2
    rows = {"micro": (sign * 1.0)[None, :, :, None].expand(3, 8, 8, 5), "hull": HULL}
    mean = {"micro": torch.zeros(3, 8, 8, 5), "hull": EVERYTHING}
    again = decode(encode(rows, "int8_difference", mean, TEXELS), "int8_difference", mean, TEXELS)
    torch.testing.assert_close(again["micro"], rows["micro"] * READ[..., None])


def test_the_digest_covers_all_that_is_said_of_a_scene():
    digests = {
        record_sha256(*said)
        for said in [
            ("a", "b", "c", b"d"), ("x", "b", "c", b"d"), ("a", "x", "c", b"d"), ("a", "b", "x", b"d"),
            ("a", "b", "c", b"x"), ("ab", "", "c", b"d"), ("a", "bc", "", b"d"), ("a", "b", "cd", b""),
        ]
    }  # fmt: skip
    assert len(digests) == 8
