"""What is wrong with the files of a pack, by damage or by design, and that it is found before it does harm."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from data_modules import layout
from scaled_ig.commands.check import check
from tests.data_modules.checking.packs import (
    lines_of,
    rehash,
    write_document,
)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("number", [0, 1])
def test_a_flipped_bit_is_found(copy, place, number):
    path = copy / layout.shard_name(number)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    assert lines_of(copy)[0].startswith(f"{path.name}: is not the file that was packed: its sha256")


@pytest.mark.parametrize(("name", "chunk"), [(layout.VIEWS, 13), (layout.MASKS, 3)])
def test_a_rotten_chunk_names_scene_and_view(copy, name, chunk):
    path = copy / layout.shard_name(0)
    with h5py.File(path) as file:
        place = file[name].id.get_chunk_info(chunk).byte_offset  # scenes without masks have no chunks of them
    content = bytearray(path.read_bytes())
    content[place + 9] ^= 1
    path.write_bytes(content)
    lines = lines_of(copy)
    assert len(lines) == 2
    assert lines[1].startswith(f"{path.name}, scene b: view 3: cannot be read (")


def test_pixels_that_were_written_anew_are_not_those_that_were_packed(copy):
    with h5py.File(copy / layout.shard_name(0), "a") as file:
        view = file[layout.VIEWS][15]
        view[0, 0, 0] ^= 1
        file[layout.VIEWS][15] = view
    rehash(copy)
    (line,) = lines_of(copy)
    assert "scene b: its views, cameras or masks are not those that were packed (sha256)" in line


def test_masks_that_were_written_anew_are_not_those_that_were_packed(copy):
    with h5py.File(copy / layout.shard_name(0), "a") as file:
        mask = file[layout.MASKS][15]
        mask[8, 8] ^= 1
        file[layout.MASKS][15] = mask
    rehash(copy)
    (line,) = lines_of(copy)
    assert "scene b: its views, cameras or masks are not those that were packed (sha256)" in line


def test_masks_of_which_the_index_says_nothing(copy):
    document = json.loads((copy / layout.INDEX_FILE).read_text())
    for scene in document["shards"][0]["scenes"]:
        scene["masks"] = False
    write_document(copy, document)
    assert "has a dataset masks, while pack.json says that no scene has masks" in lines_of(copy)[0]


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def header_only(path):
    path.write_bytes(path.read_bytes()[:40])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("these are not the bytes that you look for")


def png(path):
    Image.new("RGB", (8, 8)).save(path, format="PNG")


def foreign(path):
    with h5py.File(path, "w") as file:
        file["something"] = np.arange(5)


def folder(path):
    path.unlink()
    path.mkdir()


SPOILED_FILES = [truncated, half, header_only, empty, text, png, foreign, folder, Path.unlink]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("spoil", SPOILED_FILES, ids=lambda spoil: spoil.__name__)
def test_a_spoiled_file_costs_its_scenes_only(copy, spoil, number, capsys):
    path = copy / layout.shard_name(number)
    spoil(path)
    assert check(str(copy)) == 1
    finding, last = capsys.readouterr().out.strip().splitlines()
    assert finding.startswith(f"{path.name}: ")
    assert "--fix-drop" in finding
    assert f"{('2 scenes', '1 scene')[number]} not sound" in last


def test_a_pack_without_a_sound_scene_is_unusable(copy):
    for number in (0, 1):
        empty(copy / layout.shard_name(number))
    assert check(str(copy)) == 1


def edit(copy: Path, name: str, values) -> None:
    """Puts another dataset in place of one, behind the back of the digests."""
    with h5py.File(copy / layout.shard_name(0), "a") as file:
        del file[name]
        if values is not None:
            file.create_dataset(name, **values)
    rehash(copy)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (layout.VIEWS, None, "has no dataset views"),
        (layout.NEAR_FAR, None, "has no dataset near_far"),
        (layout.VIEWS, {"data": np.zeros((20, 16, 16, 3), "f4")}, "views is of type float32 instead of uint8"),
        (layout.VIEWS, {"data": np.zeros((20, 16, 16, 4), "u1")}, "(20, 16, 16, 4) instead of (20, 16, 16, 3)"),
        (layout.VIEWS, {"data": np.zeros((19, 16, 16, 3), "u1")}, "(19, 16, 16, 3) instead of (20, 16, 16, 3)"),
        (layout.VIEWS, {"shape": (2**40, 16, 16, 3), "dtype": "u1", "chunks": (1, 16, 16, 3)}, "which pack.json asks"),
        (layout.VIEWS, {"data": np.zeros((20, 16, 16, 3), "u1")}, "not stored as one gzip-compressed chunk"),
        (layout.MASKS, None, "has no dataset masks"),
        (layout.MASKS, {"data": np.zeros((20, 16, 16), "u1")}, "masks is not stored as one gzip-compressed chunk"),
        (layout.MASKS, {"data": np.zeros((20, 16, 16, 1), "u1")}, "(20, 16, 16, 1) instead of (20, 16, 16)"),
        (layout.MASKED, {"data": np.array([1, 1], "u1")}, "scene a: its flag of masks is True in the file, but False"),
        (layout.MASKED, {"data": np.array([0, 0], "u1")}, "scene b: its flag of masks is False in the file, but True"),
        (layout.CAMERA_TO_WORLD, {"data": np.zeros((20, 4, 4), "f8")}, "cam2world is of type float64"),
        (layout.OFFSET, {"data": np.array([0, 30, 20])}, "does not ascend"),
        (layout.OFFSET, {"data": np.array([0, 9, 20])}, "scene a: its table of views is [0, 9] in the file"),
        (layout.SCENE_ID, {"data": np.array(["a", "b"], object), "dtype": h5py.string_dtype()}, "of type object"),
        (layout.SCENE_ID, {"data": np.array([b"a", b"x"])}, "scene b: its id is x in the file, but b in pack.json"),
        (layout.CATEGORY, {"data": np.array([b"thing", b"car"])}, "scene b: its category is car in the file"),
        (layout.SHA256, {"data": np.array([b"0" * 64, b"1" * 64])}, "its digest is 000"),
        (layout.SOURCE, {"data": np.array([b"{}", b"[1"])}, "scene b: its source record is no JSON object"),
    ],
)  # fmt: skip
def test_another_dataset(copy, name, values, words):
    edit(copy, name, values)
    assert any(words in line for line in lines_of(copy))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("complete", None, "no attribute complete"),
        ("complete", False, "complete is False"),
        ("schema", np.bytes_("other"), "schema is"),
        ("schema_version", 2, "schema_version is 2 instead of 3"),
        ("world_up", np.bytes_("+y"), "world_up is"),
        ("image_size", (16, 32), "image_size is [16 32]"),
        ("content_sha256", np.bytes_("0"), "content_sha256 is not that"),
    ],
)
def test_another_attribute(copy, name, value, words):
    with h5py.File(copy / layout.shard_name(0), "a") as file:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value
    rehash(copy)
    assert words in lines_of(copy)[0]


def external_link(file, other):
    del file[layout.VIEWS]
    file[layout.VIEWS] = h5py.ExternalLink(str(other), "views")


def link_loop(file, other):
    del file[layout.VIEWS]
    file[layout.VIEWS] = h5py.SoftLink("/views")


def link_in_the_group(file, other):
    del file[layout.SOURCE]
    file[layout.SOURCE] = h5py.SoftLink("/scene/id")


def virtual(file, other):
    del file[layout.NEAR_FAR]
    table = h5py.VirtualLayout((20, 2), "f4")
    table[:] = h5py.VirtualSource(str(other), "near_far", (20, 2))
    file.create_virtual_dataset(layout.NEAR_FAR, table)


def external_values(file, other):
    del file[layout.NEAR_FAR]
    file.create_dataset(layout.NEAR_FAR, (20, 2), "f4", external=[(str(other), 0, 160)])


@pytest.mark.parametrize("spoil", [external_link, link_loop, link_in_the_group, virtual, external_values])
def test_what_leads_out_of_the_file_is_refused(copy, spoil, tmp_path):
    other = tmp_path / "other.bin"
    other.write_bytes(bytes(1000))
    with h5py.File(copy / layout.shard_name(0), "a") as file:
        spoil(file, other)
    rehash(copy)
    (line,) = lines_of(copy)
    assert "a link to something else" in line or "in other files" in line


def test_an_absurd_size_in_the_index_is_refused_before_memory_is(copy):
    document = json.loads((copy / layout.INDEX_FILE).read_text())
    document["shards"][0]["scenes"][0]["views"] = 2**20
    write_document(copy, document)
    edit(copy, layout.VIEWS, {"shape": (2**20 + 10, 16, 16, 3), "dtype": "u1", "chunks": (1, 16, 16, 3)})
    assert any("more than a file of" in line for line in lines_of(copy))
