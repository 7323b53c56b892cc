"""Pictures of all kinds and their masks, as a ``transforms.json`` names them."""

import numpy as np
import pytest
from PIL import Image

from scaled_ig.errors import UsageError
from tests.data_modules.sources.one_frame import PIXELS, capture, change_frame, load


def test_masks_and_alpha_give_white(tmp_path):
    alpha, mask = np.full((4, 6), 255, np.uint8), np.zeros((4, 6), np.uint8)
    alpha[0], mask[:, 2:] = 0, 255
    folder = change_frame(capture(tmp_path / "scene"), mask_path="masks\\m.png")
    (folder / "masks").mkdir()
    for values in (mask, mask // 255):
        Image.fromarray(values).save(folder / "masks" / "m.png")
        np.testing.assert_array_equal(load(folder).images[0], np.where(mask[..., None] > 0, PIXELS, 255))
    Image.fromarray(np.dstack([PIXELS, alpha])).save(folder / "0.png")
    np.testing.assert_array_equal(load(folder).images[0], np.where((mask * (alpha > 0))[..., None] > 0, PIXELS, 255))
    Image.new("L", (3, 2)).save(folder / "masks" / "m.png")
    with pytest.raises(UsageError, match="another size"):
        load(folder)
    (folder / "masks" / "m.png").unlink()
    with pytest.raises(UsageError, match=r"m\.png"):
        load(folder)


def test_pictures_of_all_kinds(tmp_path):
    grey = PIXELS[..., 0]
    folder = capture(tmp_path / "scene")
    palette = Image.fromarray(PIXELS // 64 * 64).quantize(64)
    clear = palette.copy()
    clear.info["transparency"] = 0
    first = np.asarray(palette)[..., None] == 0
    colours = np.asarray(palette.convert("RGB"))
    cases = [
        (Image.fromarray(grey), np.repeat(grey[..., None], 3, axis=2)),
        (Image.fromarray(grey.astype(np.uint16) * 256 + 200), np.repeat(grey[..., None], 3, axis=2)),
        (palette, colours),
        (clear, np.where(first, 255, colours)),
        (Image.fromarray(np.dstack([grey, np.zeros_like(grey)]), "LA"), np.full((4, 6, 3), 255)),
        (Image.fromarray(grey > 99), np.repeat(np.where(grey > 99, 255, 0)[..., None], 3, axis=2)),
    ]
    for image, expected in cases:
        image.save(folder / "0.png", **({"transparency": 0} if image is clear else {}))
        np.testing.assert_array_equal(load(folder).images[0], expected, err_msg=image.mode)


def test_an_exif_orientation_turns_nothing(tmp_path):
    folder = change_frame(capture(tmp_path / "scene"), file_path="0.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, options in (("plain", {}), ("turned", {"exif": exif})):
        Image.fromarray(PIXELS).save(folder / f"{name}.jpg", **options)
    pictures = [load(change_frame(folder, file_path=f"{name}.jpg")).images for name in ("plain", "turned")]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), r"0\.png"),
        (lambda file: file.write_bytes(b"no"), r"0\.png"),
        (lambda file: file.write_bytes(file.read_bytes()[:60]), r"0\.png"),
        (lambda file: Image.new("CMYK", (6, 4)).save(file, "JPEG"), "CMYK: save it as RGB"),
        (lambda file: Image.new("F", (6, 4)).save(file, "TIFF"), "F: save it as RGB"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(tmp_path, spoil, message):
    folder = capture(tmp_path / "scene")
    spoil(folder / "0.png")
    with pytest.raises(UsageError, match=message) as caught:
        load(folder)
    assert "transforms.json" in str(caught.value)
