"""glTF 2.0 feature by feature: the views of a file are those of a twin that says the same without the feature."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.layout import PackIndex
from data_modules.raycast import RayCaster, draw_cameras
from data_modules.sources import gltf_extensions
from data_modules.sources.base import Mesh, normalize, srgb_to_linear
from data_modules.sources.meshes import read_mesh
from scaled_ig.commands.pack import pack
from scaled_ig.errors import UsageError
from tests.data_modules.sources.gltf_files import Document, box, primitive

pytest.importorskip("embreex", reason="embreex has no wheel for this machine")
SIZE = (40, 40)
PIXELS = np.random.default_rng(3).integers(0, 256, (4, 4, 3), dtype=np.uint8)
RED, BLUE = [0.8, 0.1, 0.1, 1.0], [0.1, 0.1, 0.8, 1.0]
UNLIT = {"extensions": {"KHR_materials_unlit": {}}}
NEAREST, CLAMP, MIRROR = 9728, 33071, 33648

Pair = tuple[Document, Document]
PAIRS: dict[str, Callable[[], Pair]] = {}


def pair(make: Callable[[], Pair]) -> Callable[[], Pair]:
    PAIRS[make.__name__] = make
    return make


def views(mesh: Mesh) -> np.ndarray:
    caster = RayCaster(normalize(mesh, "y")[0], 4)
    poses, intrinsics = draw_cameras(4, 1.3, (-180, 180), (-60, 80), np.random.default_rng(5))
    return np.stack([caster.render(*camera, SIZE)[0] for camera in zip(poses, intrinsics, strict=True)]).astype(int)


# -- small files ------------------------------------------------------------------------------------------------------


def material(document: Document, factor=None, texture: int | None = None, info=None, **keys) -> int:
    surface = {} if factor is None else {"baseColorFactor": list(factor)}
    if texture is not None:
        surface["baseColorTexture"] = {"index": texture, **(info or {})}
    return document.add("materials", {"pbrMetallicRoughness": surface, **keys})


def boxed(shape=None, attributes=None, node=None, **paint) -> Document:
    """A box of one material; ``attributes`` are functions of the document."""
    document = Document()
    part = primitive(document, shape or box(), material=material(document, **paint))
    for name, make in (attributes or {}).items():
        part["attributes"][name] = make(document)
    document.node(mesh=document.mesh(part), **(node or {}))
    return document


def textured(pixels=PIXELS, uv=None, sampler=None, info=None, factor=None, form="PNG", extra=None, **keys) -> Document:
    """A box with a texture; ``uv`` is a function of its coordinates."""
    document, shape = Document(), box()
    texture = document.image(pixels, form)
    if sampler is not None:
        document.json["textures"][texture]["sampler"] = document.add("samplers", sampler)
    if uv is not None:
        shape["uv"] = uv(shape["uv"])
    part = primitive(document, shape, material=material(document, factor, texture, info, **keys))
    for name, values in (extra or {}).items():
        part["attributes"][name] = document.accessor(values)
    document.node(mesh=document.mesh(part))
    return document


def changed(shape, **values):
    return {**shape, **values}


def colors(values, kind="f4", **keys):
    return {"COLOR_0": lambda document: document.accessor(np.tile(values, (24, 1)), kind, **keys)}


def moved(shape, matrix):
    """A shape by a matrix [4, 4]; its normals by the inverse transpose."""
    linear = np.asarray(matrix)[:3, :3]
    normals = shape["normals"] @ np.linalg.inv(linear)
    return changed(
        shape,
        vertices=shape["vertices"] @ linear.T + np.asarray(matrix)[:3, 3],
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
    )


def scaled(x, y, z, place=(0, 0, 0)):
    matrix = np.diag([x, y, z, 1.0])
    matrix[:3, 3] = place
    return matrix


def two(first, second, paints=(RED, BLUE)) -> Document:
    """Two shapes of two colours."""
    document = Document()
    parts = [
        primitive(document, shape, material=material(document, factor))
        for shape, factor in zip((first, second), paints, strict=True)
    ]
    document.node(mesh=document.mesh(*parts))
    return document


# -- colours of vertices ----------------------------------------------------------------------------------------------


@pair
def vertex_colours_beside_a_material():
    return boxed(attributes=colors(RED[:3])), boxed(factor=RED)


@pair
def vertex_colours_with_alpha_on_an_opaque_material():
    return boxed(attributes=colors([0.2, 0.2, 0.2, 0.3])), boxed(factor=[0.2, 0.2, 0.2, 1])


@pair
def vertex_colours_of_eight_bits():
    return boxed(attributes=colors([51, 102, 204], "u1", normalized=True)), boxed(factor=[0.2, 0.4, 0.8, 1])


@pair
def vertex_colours_of_sixteen_bits():
    paint = colors([13107, 26214, 52428, 65535], "u2", normalized=True)
    return boxed(attributes=paint), boxed(factor=[0.2, 0.4, 0.8, 1])


@pair
def vertex_colours_of_integers_that_are_not_said_to_be_normalised():
    return boxed(attributes=colors([51, 102, 204, 255], "u1")), boxed(factor=[0.2, 0.4, 0.8, 1])


@pair
def vertex_colours_times_factor():
    return boxed(attributes=colors([0.5, 0.8, 1]), factor=[0.4, 0.5, 0.6, 1]), boxed(factor=[0.2, 0.4, 0.6, 1])


@pair
def vertex_colours_times_texture():
    return textured(extra={"COLOR_0": np.tile([0.5, 0.8, 0.2], (24, 1))}), textured(factor=[0.5, 0.8, 0.2, 1])


@pair
def vertex_colours_without_material():
    document = boxed(attributes=colors(RED[:3]))
    del document.json["meshes"][0]["primitives"][0]["material"]
    return document, boxed(factor=RED)


@pair
def no_material():
    document = boxed()
    del document.json["meshes"][0]["primitives"][0]["material"]
    return document, boxed(factor=[1, 1, 1, 1])


@pair
def vertex_colours_of_one_part_of_two():
    shapes = box(), moved(box(), scaled(1, 1, 1, (2, 0, 0)))
    document = two(*shapes, paints=([1, 1, 1, 1], BLUE))
    paint = document.accessor(np.tile(RED[:3], (24, 1)))
    document.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"] = paint
    return document, two(*shapes)


@pair
def vertex_colours_with_alpha_that_blend():
    attributes, mode = colors([1, 1, 1, 0.5]), {"alphaMode": "BLEND"}
    return boxed(attributes=attributes, factor=[0.8, 0.1, 0.1, 0.6], **mode), boxed(factor=[0.8, 0.1, 0.1, 0.3], **mode)


# -- accessors --------------------------------------------------------------------------------------------------------


def stored(name, kind, values, **keys):
    """A textured box of which one attribute is stored in another way, and its floats."""
    document = textured()
    part = document.json["meshes"][0]["primitives"][0]
    part["attributes"][name] = document.accessor(values, kind, **keys)
    return document


@pair
def positions_of_sixteen_bits_normalised():
    values = np.round(box()["vertices"] / 2 * 32767)
    return (
        stored("POSITION", "i2", values, normalized=True, stride=8),
        stored("POSITION", "f4", values / 32767),
    )


@pair
def positions_of_eight_bits_normalised_whose_lowest_is_minus_one():
    values = np.where(box()["vertices"] < 0, -128, 127)
    return stored("POSITION", "i1", values, normalized=True, stride=4), stored("POSITION", "f4", np.sign(values))


@pair
def positions_of_unsigned_numbers_as_they_are():
    values = np.round((box()["vertices"] + 1) * 100)
    return stored("POSITION", "u2", values, stride=8), stored("POSITION", "f4", values)


@pair
def quantised_parts_in_their_places():
    corners = np.round(box((2, 2, 2))["vertices"] * 32767)
    quantised, plain = Document(), Document()
    quantised.extend(True, "KHR_mesh_quantization")
    for place, factor in (((0, 0, 0), RED), ((1.5, 0.5, 0), BLUE)):
        for document, kind, values in ((quantised, "i2", corners), (plain, "f4", corners / 32767)):
            part = primitive(document, box(), material=material(document, factor))
            keys = {"normalized": True} if kind == "i2" else {}
            part["attributes"]["POSITION"] = document.accessor(values, kind, stride=12, **keys)
            document.node(mesh=document.mesh(part), translation=list(place), scale=[0.5, 0.7, 0.4])
    return quantised, plain


@pair
def texture_coordinates_of_sixteen_bits():
    values = np.round(box()["uv"] * 65535)
    return stored("TEXCOORD_0", "u2", values, normalized=True), stored("TEXCOORD_0", "f4", values / 65535)


@pair
def texture_coordinates_of_eight_bits():
    values = np.round((0.2 + 0.5 * box()["uv"]) * 255)
    return stored("TEXCOORD_0", "u1", values, normalized=True, stride=4), stored("TEXCOORD_0", "f4", values / 255)


@pair
def normals_of_eight_bits():
    values = box()["normals"] * 127
    return stored("NORMAL", "i1", values, normalized=True, stride=4), textured()


@pair
def items_with_rubbish_between_them():
    shape = box()
    document = stored("POSITION", "f4", shape["vertices"], stride=32)
    document.json["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"] = document.accessor(shape["uv"], stride=12)
    return document, textured()


@pair
def attributes_that_lie_in_one_another():
    shape, document = box(), textured()
    rows = np.column_stack([shape["vertices"], shape["normals"], shape["uv"]]).astype("<f4")
    view = document.view(b"\1" * 8 + rows.tobytes(), byteStride=32)
    for name, offset, kind in (("POSITION", 8, "VEC3"), ("NORMAL", 20, "VEC3"), ("TEXCOORD_0", 32, "VEC2")):
        row = {"bufferView": view, "byteOffset": offset, "componentType": 5126, "count": 24, "type": kind}
        document.json["meshes"][0]["primitives"][0]["attributes"][name] = document.add("accessors", row)
    return document, textured()


def sparse(document, rows, values, kind="u1"):
    return {
        "count": len(rows),
        "indices": {
            "bufferView": document.view(np.array(rows, f"<{kind}").tobytes()),
            "componentType": {"u1": 5121, "u2": 5123, "u4": 5125}[kind],
        },
        "values": {"bufferView": document.view(np.asarray(values, "<f4").tobytes())},
    }


@pair
def sparse_positions():
    shape, document = box(), textured()
    rows = [0, 3, 17]
    number = document.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    document.json["accessors"][number]["sparse"] = sparse(document, rows, 1.5 * shape["vertices"][rows])
    dense = shape["vertices"].copy()
    dense[rows] *= 1.5
    return document, stored("POSITION", "f4", dense)


@pair
def sparse_positions_over_zeros():
    shape, document = box(), textured()
    rows = [row for row in range(24) if row not in (2, 7)]
    row = {"componentType": 5126, "count": 24, "type": "VEC3"}
    row["sparse"] = sparse(document, rows, shape["vertices"][rows], "u2")
    document.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = document.add("accessors", row)
    dense = shape["vertices"].copy()
    dense[[2, 7]] = 0
    return document, stored("POSITION", "f4", dense)


@pair
def an_accessor_without_bytes():
    document = textured()
    row = {"componentType": 5126, "count": 24, "type": "VEC2"}
    document.json["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"] = document.add("accessors", row)
    return document, stored("TEXCOORD_0", "f4", np.zeros((24, 2)))


# -- triangles --------------------------------------------------------------------------------------------------------


def indexed(make: Callable[[Document], dict]) -> Document:
    document = textured()
    document.json["meshes"][0]["primitives"][0].update(make(document))
    return document


@pair
def indices_of_eight_bits():
    return indexed(lambda d: {"indices": d.accessor(box()["faces"].ravel(), "u1")}), textured()


@pair
def indices_of_thirty_two_bits():
    return indexed(lambda d: {"indices": d.accessor(box()["faces"].ravel(), "u4")}), textured()


@pair
def triangles_without_indices():
    shape, document = box(), textured()
    part, corners = document.json["meshes"][0]["primitives"][0], shape["faces"].ravel()
    del part["indices"]
    for name, key in (("POSITION", "vertices"), ("NORMAL", "normals"), ("TEXCOORD_0", "uv")):
        part["attributes"][name] = document.accessor(shape[key][corners])
    return document, textured()


SHEET = {
    "vertices": np.array([[x, y, 0.3 * x * y] for x in (0, 1, 2.5, 3) for y in (0, 1.5)], float),
    "uv": np.array([[x / 3, y] for x in range(4) for y in (0, 1)], float),
}


def sheet(mode, indices) -> Document:
    document = Document()
    part = {
        "attributes": {
            "POSITION": document.accessor(SHEET["vertices"]),
            "TEXCOORD_0": document.accessor(SHEET["uv"]),
        },
        "mode": mode,
        "material": material(document, None, document.image(PIXELS)),
    }
    if indices is not None:
        part["indices"] = document.accessor(indices, "u2")
    document.node(mesh=document.mesh(part))
    return document


@pair
def a_strip():
    faces = [[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5], [4, 5, 6], [6, 5, 7]]
    return sheet(5, None), sheet(4, np.ravel(faces))


@pair
def a_strip_with_indices():
    return sheet(5, [7, 6, 5, 4, 3]), sheet(4, [7, 6, 5, 5, 6, 4, 5, 4, 3])


@pair
def a_fan():
    return sheet(6, [0, 2, 4, 5, 3, 1]), sheet(4, [0, 2, 4, 0, 4, 5, 0, 5, 3, 0, 3, 1])


@pair
def points_and_lines_beside_triangles():
    document = sheet(4, [0, 1, 2])
    parts = document.json["meshes"][0]["primitives"]
    parts += [{**parts[0], "mode": mode} for mode in (0, 1, 2, 3)]
    return document, sheet(4, [0, 1, 2])


@pair
def faces_without_normals_are_flat():
    """Of a box every face of which has corners of its own, flat normals are those of the file."""
    document = textured()
    del document.json["meshes"][0]["primitives"][0]["attributes"]["NORMAL"]
    return document, textured()


# -- textures ---------------------------------------------------------------------------------------------------------


def transform(**values):
    return {"extensions": {"KHR_texture_transform": values}}


@pair
def another_set_of_coordinates():
    other = 1 - 0.7 * box()["uv"]
    return textured(info={"texCoord": 1}, extra={"TEXCOORD_1": other}), textured(uv=lambda uv: 1 - 0.7 * uv)


@pair
def a_transform_that_crops():
    """The right half of the upper half of a picture, without what lies beside it."""
    still = {"wrapS": CLAMP, "wrapT": CLAMP, "magFilter": NEAREST}
    whole = PIXELS.repeat(8, axis=0).repeat(8, axis=1)
    document = textured(whole, info=transform(offset=[0.5, 0], scale=[0.5, 0.5]), sampler=still)
    document.extend(True, "KHR_texture_transform")
    return document, textured(whole[:16, 16:], sampler=still)


@pair
def a_transform_that_turns():
    """Counter-clockwise in the picture, whose v points down: u goes to where -v was."""
    return textured(info=transform(rotation=np.pi / 2)), textured(uv=lambda uv: np.stack([uv[:, 1], -uv[:, 0]], axis=1))


@pair
def a_transform_that_scales_then_turns_then_moves():
    def by_hand(uv):
        u, v = uv[:, 0] * 2, uv[:, 1] * 0.5
        angle = 0.4
        turned = np.cos(angle) * u + np.sin(angle) * v, -np.sin(angle) * u + np.cos(angle) * v
        return np.stack([turned[0] + 0.1, turned[1] - 0.3], axis=1)

    return textured(info=transform(offset=[0.1, -0.3], rotation=0.4, scale=[2, 0.5])), textured(uv=by_hand)


@pair
def a_transform_that_names_its_coordinates():
    other = box()["uv"][:, ::-1] * 0.5
    document = textured(info={"texCoord": 0, **transform(texCoord=1, scale=[2, 2])}, extra={"TEXCOORD_1": other})
    return document, textured(uv=lambda uv: uv[:, ::-1])


@pair
def a_mirrored_texture():
    tiled = np.concatenate([
        np.concatenate([PIXELS, PIXELS[:, ::-1]], axis=1),
        np.concatenate([PIXELS[::-1], PIXELS[::-1, ::-1]], axis=1),
    ])  # fmt: skip
    return textured(uv=lambda uv: 4 * uv, sampler={"wrapS": MIRROR, "wrapT": MIRROR}), textured(
        tiled, lambda uv: 2 * uv
    )


@pair
def a_clamped_texture():
    padded = np.pad(PIXELS, [(4, 4), (4, 4), (0, 0)], mode="edge")
    document = textured(uv=lambda uv: 2.5 * uv - 0.75, sampler={"wrapS": CLAMP, "wrapT": CLAMP})
    return document, textured(padded, lambda uv: (2.5 * uv - 0.75 + 1) / 3)


@pair
def a_texture_clamped_along_one_side():
    padded = np.pad(PIXELS, [(0, 0), (4, 4), (0, 0)], mode="edge")
    document = textured(uv=lambda uv: 2.5 * uv - 0.75, sampler={"wrapS": CLAMP})
    return document, textured(padded, lambda uv: (2.5 * uv - 0.75 + [1, 0]) / [3, 1])


@pair
def the_nearest_texel():
    large = PIXELS.repeat(32, axis=0).repeat(32, axis=1)
    return textured(sampler={"magFilter": NEAREST}), textured(large, sampler={"magFilter": NEAREST})


@pair
def a_webp_texture():
    document = textured(form="WEBP")
    source = document.json["textures"][0].pop("source")
    document.json["textures"][0]["extensions"] = {"EXT_texture_webp": {"source": source}}
    document.extend(True, "EXT_texture_webp")
    return document, textured()


@pair
def a_texture_that_is_there_in_a_plain_form_too():
    document = textured()
    other = document.add(
        "images", {"bufferView": document.view(b"\xabKTX 20\xbb no picture"), "mimeType": "image/ktx2"}
    )
    document.json["textures"][0]["extensions"] = {"KHR_texture_basisu": {"source": other}}
    document.extend(False, "KHR_texture_basisu")
    return document, textured()


@pair
def a_grey_texture():
    grey = PIXELS[..., 0]
    return textured(grey), textured(np.repeat(grey[..., None], 3, axis=2))


# -- alpha ------------------------------------------------------------------------------------------------------------


def with_alpha(alpha):
    return np.dstack([PIXELS, np.broadcast_to(np.asarray(alpha, np.uint8), PIXELS.shape[:2])])


@pair
def alpha_of_an_opaque_material():
    return textured(with_alpha(40), factor=[0.5, 1, 1, 0.2]), textured(factor=[0.5, 1, 1, 1])


@pair
def alpha_of_a_texture_that_another_material_ignores():
    """One image for two materials, of which one cuts by its alpha."""
    shapes = box(), moved(box(), scaled(1, 1, 1, (2, 0, 0)))
    document, twin = two(*shapes), two(*shapes)
    pixels, alpha = PIXELS, np.repeat([[255, 0]], 4, axis=0).repeat(2, axis=1)
    for one, images in ((document, [np.dstack([pixels, alpha])]), (twin, [np.dstack([pixels, alpha]), pixels])):
        numbers = [one.image(image) for image in images]
        for row, number in zip(one.json["materials"], (numbers[0], numbers[-1]), strict=True):
            row["pbrMetallicRoughness"]["baseColorTexture"] = {"index": number}
        one.json["materials"][0]["alphaMode"] = "MASK"
    return document, twin


@pair
def a_mask_that_keeps_all():
    return textured(with_alpha(128), alphaMode="MASK"), textured()


def sides(keep, **paint):
    """A smaller box within another, of which only some sides are kept."""
    document = Document()
    shape = box((2, 2, 2))
    outer = primitive(document, changed(shape, faces=shape["faces"][keep]), material=material(document, **paint))
    inner = primitive(document, box((1, 1.2, 1.5)), material=material(document, BLUE))
    document.node(mesh=document.mesh(outer, inner))
    return document


ALL, UPPER = np.arange(12), np.arange(6)


def half_masked(**keys):
    """The sides from the seventh on take a part of the texture whose alpha is below."""
    document = sides(ALL, factor=[1, 0.5, 0.5, 0.6], **keys)
    alpha = np.repeat([[255, 255, 90, 90]], 4, axis=0)
    row = document.json["materials"][0]["pbrMetallicRoughness"]
    row["baseColorTexture"] = {"index": document.image(np.dstack([np.full((4, 4, 3), 255, np.uint8), alpha]))}
    uv = np.repeat([[0.25, 0.5], [0.75, 0.5]], 12, axis=0)
    document.json["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"] = document.accessor(uv)
    return document


@pair
def a_mask_that_cuts():
    return half_masked(alphaMode="MASK", alphaCutoff=0.3), sides(UPPER, factor=[1, 0.5, 0.5, 1])


@pair
def a_mask_whose_cutoff_is_a_half():
    return half_masked(alphaMode="MASK"), sides(UPPER, factor=[1, 0.5, 0.5, 1])


@pair
def a_mask_that_cuts_all():
    shape = box()
    document = two(moved(shape, scaled(0.5, 0.5, 0.5)), shape)
    document.json["materials"][1]["alphaMode"] = "MASK"
    document.json["materials"][1]["pbrMetallicRoughness"]["baseColorFactor"][3] = 0.4
    twin = two(
        moved(shape, scaled(0.5, 0.5, 0.5)), changed(shape, vertices=shape["vertices"] * 1, faces=shape["faces"])
    )
    twin.json["materials"][1].update(alphaMode="BLEND")
    twin.json["materials"][1]["pbrMetallicRoughness"]["baseColorFactor"][3] = 0.0
    return document, twin


@pair
def a_pane_that_blends_with_the_white_behind_it():
    document, twin = sheet(4, [0, 2, 1, 1, 2, 3]), sheet(4, [0, 2, 1, 1, 2, 3])
    color, alpha = np.array([0.9, 0.2, 0.1]), 0.4
    display = 1.055 * color ** (1 / 2.4) - 0.055
    mixed = srgb_to_linear(alpha * display + 1 - alpha)
    for one, factor, keys in ((document, [*color, alpha], {"alphaMode": "BLEND"}), (twin, [*mixed, 1], {})):
        one.json["materials"][0] = {"pbrMetallicRoughness": {"baseColorFactor": factor}, **keys, **UNLIT}
    return document, twin


@pair
def both_sides_are_drawn_whatever_the_file_says():
    return textured(doubleSided=False), textured(doubleSided=True)


# -- light ------------------------------------------------------------------------------------------------------------

BLACK = [0, 0, 0, 1]


@pair
def emission():
    return boxed(factor=BLACK, emissiveFactor=[0.1, 0.4, 0.7]), boxed(factor=[0.1, 0.4, 0.7, 1], **UNLIT)


@pair
def emission_of_a_texture():
    document = textured(factor=BLACK, emissiveFactor=[0.5, 0.7, 1])
    row = document.json["materials"][0]
    row["emissiveTexture"] = row["pbrMetallicRoughness"].pop("baseColorTexture")
    return document, textured(factor=[0.5, 0.7, 1, 1], **UNLIT)


@pair
def emission_of_a_texture_elsewhere():
    other = 1 - 0.7 * box()["uv"]
    document = textured(factor=BLACK, emissiveFactor=[1, 1, 1], extra={"TEXCOORD_1": other})
    row = document.json["materials"][0]
    row["emissiveTexture"] = {**row["pbrMetallicRoughness"].pop("baseColorTexture"), "texCoord": 1}
    return document, textured(uv=lambda uv: 1 - 0.7 * uv, **UNLIT)


@pair
def strong_emission():
    strong = {"extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 4.0}}}
    return (
        boxed(factor=BLACK, emissiveFactor=[0.1, 0.2, 0.05], **strong),
        boxed(factor=BLACK, emissiveFactor=[0.4, 0.8, 0.2]),
    )


@pair
def unlit_colours_have_no_emission():
    return boxed(factor=RED, emissiveFactor=[0.5, 0.5, 0.5], **UNLIT), boxed(factor=RED, **UNLIT)


@pair
def specular_and_glossiness():
    document = textured(factor=[1, 1, 1, 1])
    row = document.json["materials"][0]
    texture = row.pop("pbrMetallicRoughness")["baseColorTexture"]
    surface = {"diffuseFactor": [0.5, 0.6, 0.7, 1], "diffuseTexture": texture, "specularFactor": [1, 0, 0]}
    row["extensions"] = {"KHR_materials_pbrSpecularGlossiness": surface}
    document.extend(True, "KHR_materials_pbrSpecularGlossiness")
    return document, textured(factor=[0.5, 0.6, 0.7, 1])


@pair
def variants_of_the_look():
    document = boxed(factor=RED)
    other = material(document, BLUE)
    document.json["extensions"] = {"KHR_materials_variants": {"variants": [{"name": "blue"}]}}
    mappings = {"mappings": [{"material": other, "variants": [0]}]}
    document.json["meshes"][0]["primitives"][0]["extensions"] = {"KHR_materials_variants": mappings}
    document.extend(True, "KHR_materials_variants")
    return document, boxed(factor=RED)


# -- nodes ------------------------------------------------------------------------------------------------------------


def placed(shapes) -> Document:
    """Shapes [(shape, factor)] in the axes of the scene."""
    document = Document()
    for shape, factor in shapes:
        document.node(mesh=document.mesh(primitive(document, shape, material=material(document, factor))))
    return document


def turn(axis, angle):
    """Quaternion, and matrix [4, 4] by Rodrigues' formula."""
    axis = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.cross(axis, np.eye(3)).T
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return [*(axis * np.sin(angle / 2)), float(np.cos(angle / 2))], matrix


QUATERNION, TURN = turn([1, 2, -0.5], 0.8)
TRS = {"translation": [1, -2, 0.5], "rotation": QUATERNION, "scale": [1, 2, 0.5]}
PLACE = scaled(1, 1, 1, (1, -2, 0.5)) @ TURN @ scaled(1, 2, 0.5)


@pair
def a_node_that_is_moved_turned_and_scaled():
    return boxed(node=TRS, factor=RED), boxed(shape=moved(box(), PLACE), factor=RED)


@pair
def a_node_with_a_matrix():
    return boxed(node={"matrix": PLACE.T.ravel().tolist()}, factor=RED), boxed(shape=moved(box(), PLACE), factor=RED)


@pair
def nodes_below_each_other():
    document = Document()
    mesh = document.mesh(primitive(document, box(), material=material(document, RED)))
    leaf = document.node(False, mesh=mesh, **TRS)
    middle = document.node(False, children=[leaf], scale=[2, 1, 1])
    document.node(children=[middle], mesh=mesh, rotation=QUATERNION)
    twin = placed([(moved(box(), TURN), RED), (moved(box(), TURN @ scaled(2, 1, 1) @ PLACE), RED)])
    return document, twin


@pair
def a_mirrored_node():
    return boxed(node={"scale": [-1, 1, 2]}, factor=RED), boxed(shape=moved(box(), scaled(-1, 1, 2)), factor=RED)


@pair
def instances():
    document = boxed(factor=RED, node={"rotation": QUATERNION})
    places, turns = [[0, 0, 0], [3, 0, 0], [0, 2, 1]], [[0, 0, 0, 1], QUATERNION, [0, 0, 0, 1]]
    sizes = [[1, 1, 1], [0.5, 1, 1], [-1, 1, 0.5]]
    attributes = {
        "TRANSLATION": document.accessor(places),
        "ROTATION": document.accessor(turns),
        "SCALE": document.accessor(sizes),
    }
    document.json["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    document.extend(True, "EXT_mesh_gpu_instancing")
    rotations = np.eye(4), TURN, np.eye(4)
    matrices = [
        TURN @ scaled(1, 1, 1, place) @ rotation @ scaled(*size)
        for place, rotation, size in zip(places, rotations, sizes, strict=True)
    ]
    return document, placed([(moved(box(), matrix), RED) for matrix in matrices])


@pair
def the_scene_that_the_file_names():
    document = two(box(), box())
    other = document.mesh(primitive(document, box((3, 1, 1)), material=material(document, BLUE)))
    number = document.node(False, mesh=other)
    document.json["scenes"].append({"nodes": [number]})
    document.json["scene"] = 1
    return document, boxed(shape=box((3, 1, 1)), factor=BLUE)


@pair
def the_first_scene_where_the_file_names_none():
    document = boxed(factor=RED)
    other = document.mesh(primitive(document, box((3, 1, 1)), material=material(document, BLUE)))
    document.json["scenes"].append({"nodes": [document.node(False, mesh=other)]})
    del document.json["scene"]
    return document, boxed(factor=RED)


@pair
def all_nodes_where_there_is_no_scene():
    document = placed([(box(), RED), (moved(box(), scaled(1, 1, 1, (2, 0, 0))), BLUE)])
    del document.json["scenes"], document.json["scene"]
    return document, two(box(), moved(box(), scaled(1, 1, 1, (2, 0, 0))))


@pair
def cameras_and_lights():
    document = boxed(factor=RED)
    document.json["cameras"] = [{"type": "perspective", "perspective": {"yfov": 1, "znear": 0.1}}]
    document.json["extensions"] = {"KHR_lights_punctual": {"lights": [{"type": "point", "color": [0, 1, 0]}]}}
    document.node(camera=0, translation=[9, 9, 9])
    document.node(extensions={"KHR_lights_punctual": {"light": 0}}, translation=[5, 5, 5])
    document.extend(False, "KHR_lights_punctual")
    return document, boxed(factor=RED)


@pair
def hidden_nodes():
    document = boxed(factor=RED)
    mesh = document.mesh(primitive(document, box((3, 1, 1)), material=material(document, BLUE)))
    below = document.node(False, mesh=mesh)
    document.node(children=[below], mesh=mesh, extensions={"KHR_node_visibility": {"visible": False}})
    document.extend(True, "KHR_node_visibility")
    return document, boxed(factor=RED)


# -- skins and targets ------------------------------------------------------------------------------------------------


def skinned(weights, kind="f4", joints=None, inverse=None, node=None, **keys) -> Document:
    """A box held by three joints, of which one lies below another."""
    document = Document()
    part = primitive(document, box(), material=material(document, RED))
    joints = np.tile([0, 1, 2, 0], (24, 1)) if joints is None else joints
    part["attributes"]["JOINTS_0"] = document.accessor(joints, "u1")
    part["attributes"]["WEIGHTS_0"] = document.accessor(weights, kind, **keys)
    mesh = document.mesh(part)
    tip = document.node(False, **TRS)
    numbers = [document.node(children=[tip], scale=[2, 1, 1]), tip, document.node(translation=[0, 0, 3])]
    skin = {"joints": numbers}
    if inverse is not None:
        columns = np.array([matrix.T.ravel() for matrix in inverse])
        skin["inverseBindMatrices"] = document.accessor(columns)
    document.node(mesh=mesh, skin=document.add("skins", skin), **(node or {}))
    return document


JOINTS = [scaled(2, 1, 1), scaled(2, 1, 1) @ PLACE, scaled(1, 1, 1, (0, 0, 3))]
SHARES = np.tile([0.2, 0.3, 0.5, 0], (24, 1))


def held(weights, matrices):
    """The box by the weighted sum of matrices [J, 4, 4] at each vertex."""
    shape = box()
    vertices, normals = [], []
    for vertex, normal, share in zip(shape["vertices"], shape["normals"], weights, strict=True):
        matrix = sum(part * matrix for part, matrix in zip(share, matrices, strict=False))
        vertices.append((matrix @ [*vertex, 1])[:3])
        turned = normal @ np.linalg.inv(matrix[:3, :3])
        normals.append(turned / np.linalg.norm(turned))
    return boxed(shape=changed(shape, vertices=np.array(vertices), normals=np.array(normals)), factor=RED)


@pair
def a_skin_whose_node_stands_elsewhere():
    return skinned(SHARES, node={"translation": [50, 0, 0], "scale": [9, 9, 9]}), held(SHARES, JOINTS)


@pair
def a_skin_with_inverse_bind_matrices():
    inverse = [np.linalg.inv(TURN @ scaled(100, 100, 100)), scaled(0.5, 1, 2, (1, 0, 0)), np.eye(4)]
    matrices = [joint @ matrix for joint, matrix in zip(JOINTS, inverse, strict=True)]
    return skinned(SHARES, inverse=inverse), held(SHARES, matrices)


@pair
def a_skin_of_other_weights_at_every_vertex():
    weights = np.random.default_rng(0).uniform(0, 1, (24, 4)) * [1, 1, 1, 0]
    weights /= weights.sum(axis=1, keepdims=True)
    return skinned(weights), held(weights, JOINTS)


@pair
def a_skin_of_weights_of_eight_bits():
    weights = np.tile([51, 102, 102, 0], (24, 1))
    return skinned(weights, "u1", normalized=True), held(weights / 255, JOINTS)


@pair
def a_skin_of_eight_joints_a_vertex():
    document = skinned(0.5 * SHARES)
    part = document.json["meshes"][0]["primitives"][0]["attributes"]
    part["JOINTS_1"] = document.accessor(np.tile([2, 0, 0, 0], (24, 1)), "u2")
    part["WEIGHTS_1"] = document.accessor(np.tile([0.5, 0, 0, 0], (24, 1)))
    return document, held(np.tile([0.1, 0.15, 0.75, 0], (24, 1)), JOINTS)


STRETCH = box()["vertices"] * [2, 0, 0]
SHIFT = np.tile([0, 1.5, 0], (24, 1)) * (box()["vertices"][:, :1] > 0)


def morphed(mesh_weights=None, node_weights=None, targets=None) -> Document:
    document = boxed(factor=RED)
    make = targets or (lambda d: [{"POSITION": d.accessor(STRETCH)}, {"POSITION": d.accessor(SHIFT)}])
    document.json["meshes"][0]["primitives"][0]["targets"] = make(document)
    if mesh_weights is not None:
        document.json["meshes"][0]["weights"] = mesh_weights
    if node_weights is not None:
        document.json["nodes"][0]["weights"] = node_weights
    return document


def stretched(first, second):
    shape = box()
    return boxed(changed(shape, vertices=shape["vertices"] + first * STRETCH + second * SHIFT), factor=RED)


@pair
def targets_without_weights():
    return morphed(), boxed(factor=RED)


@pair
def weights_of_the_mesh():
    return morphed([1.0, 0.5]), stretched(1, 0.5)


@pair
def weights_of_the_node():
    return morphed([1.0, 1.0], [0.25, -0.5]), stretched(0.25, -0.5)


@pair
def sparse_targets():
    rows = [row for row in range(24) if SHIFT[row].any()]

    def make(document):
        row = {"componentType": 5126, "count": 24, "type": "VEC3", "sparse": sparse(document, rows, SHIFT[rows])}
        return [{"POSITION": document.add("accessors", row)}]

    return morphed([0.8], targets=make), stretched(0, 0.8)


@pair
def targets_of_normals():
    turned = box()["normals"][:, [1, 2, 0]]
    shape = box()

    def make(document):
        return [{"NORMAL": document.accessor(turned - shape["normals"])}]

    return morphed([1.0], targets=make), boxed(changed(shape, normals=turned), factor=RED)


@pair
def targets_of_a_skinned_mesh():
    document = skinned(SHARES)
    document.json["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": document.accessor(STRETCH)}]
    document.json["meshes"][0]["weights"] = [1.0]
    matrix = sum(part * joint for part, joint in zip(SHARES[0], JOINTS, strict=False))
    shape = moved(changed(box(), vertices=box()["vertices"] + STRETCH), matrix)
    return document, boxed(shape, factor=RED)


# -- compressed -------------------------------------------------------------------------------------------------------


def compressed(required: bool) -> Document:
    """A textured box whose attributes and faces are there as Draco data only."""
    draco = pytest.importorskip("DracoPy", reason="DracoPy is not installed: pip install 'scaled-ig[compressed]'")
    shape, document = box(), textured()
    content = draco.encode(
        shape["vertices"].astype(np.float32),
        shape["faces"].astype(np.uint32),
        quantization_bits=24,
        preserve_order=True,
        generic_attributes={3: shape["normals"].astype(np.float32), 5: shape["uv"].astype(np.float32)},
    )
    numbers = {row["attribute_type"]: row["unique_id"] for row in draco.decode(content).attributes}
    part = document.json["meshes"][0]["primitives"][0]
    for number in [*part["attributes"].values(), part["indices"]]:
        del document.json["accessors"][number]["bufferView"]
    attributes = {"POSITION": numbers[0], "NORMAL": 3, "TEXCOORD_0": 5}
    part["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": document.view(content), "attributes": attributes}
    }
    document.extend(required, "KHR_draco_mesh_compression")
    return document


@pair
def draco():
    return compressed(True), textured()


@pair
def draco_that_is_not_said_to_be_required():
    return compressed(False), textured()


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_the_views_are_those_of_the_twin(tmp_path, name):
    document, twin = PAIRS[name]()
    drawn = views(read_mesh(document.write(tmp_path / "feature.glb")))
    expected = views(read_mesh(twin.write(tmp_path / "twin.glb")))
    assert (expected < 250).any(axis=-1).mean() > 0.02, "the object is seen"
    assert abs(drawn - expected).max() <= 1


# -- other forms of a file --------------------------------------------------------------------------------------------


def test_a_text_with_all_in_it_and_a_text_with_files_beside_it(tmp_path):
    document = textured()
    expected = views(read_mesh(document.write(tmp_path / "whole.glb")))
    np.testing.assert_array_equal(views(read_mesh(document.write(tmp_path / "whole.gltf"))), expected)
    Image.fromarray(PIXELS).save(tmp_path / "a picture.png")
    (tmp_path / "numbers.bin").write_bytes(document.binary)
    document.json["images"][0] = {"uri": "a%20picture.png"}
    buffers = [{"byteLength": len(document.binary), "uri": "numbers.bin"}]
    (tmp_path / "beside.gltf").write_text(json.dumps({**document.json, "buffers": buffers}))
    np.testing.assert_array_equal(views(read_mesh(tmp_path / "beside.gltf")), expected)


def test_the_first_bytes_tell_a_binary_file_from_a_text(tmp_path):
    document = textured()
    (tmp_path / "binary.gltf").write_bytes(document.glb())
    (tmp_path / "text.glb").write_bytes(document.gltf())
    np.testing.assert_array_equal(*(views(read_mesh(tmp_path / name)) for name in ("binary.gltf", "text.glb")))


# -- what is not read -------------------------------------------------------------------------------------------------


def refusal(document: Document, path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_mesh(document.write(path))
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "KHR_texture_basisu",
        "EXT_meshopt_compression",
        "KHR_materials_transmission",
        "ACME_teapot",
        "KHR_lights_punctual",
    ],
)
def test_an_extension_that_is_required_and_not_read_is_named(tmp_path, name):
    document = textured()
    document.json["extensionsRequired"] = [name]
    assert name in refusal(document, tmp_path / "box.glb")


def test_a_texture_that_is_there_in_another_form_only(tmp_path):
    document = textured()
    document.json["textures"][0] = {"extensions": {"KHR_texture_basisu": {"source": 0}}}
    document.extend(False, "KHR_texture_basisu")
    assert "KHR_texture_basisu only" in refusal(document, tmp_path / "box.glb")


def test_buffers_that_are_there_in_another_form_only(tmp_path):
    document = textured()
    document.extend(False, "EXT_meshopt_compression")
    document.json["buffers"] = []
    number = document.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    view = document.json["bufferViews"][document.json["accessors"][number]["bufferView"]]
    extension = {"buffer": 0, "byteOffset": 0, "byteLength": 100, "byteStride": 12, "count": 24, "mode": "ATTRIBUTES"}
    view.update(buffer=1, byteOffset=0, extensions={"EXT_meshopt_compression": extension})
    text = json.loads(document.gltf())
    fallback = {"byteLength": 1000, "extensions": {"EXT_meshopt_compression": {"fallback": True}}}
    text["buffers"].append(fallback)
    (tmp_path / "box.gltf").write_text(json.dumps(text))
    with pytest.raises(UsageError, match="compressed by EXT_meshopt_compression"):
        read_mesh(tmp_path / "box.gltf")


@pytest.mark.parametrize("required", [True, False])
def test_draco_without_its_library_names_the_extra(tmp_path, monkeypatch, required):
    document = compressed(required)
    monkeypatch.setattr(gltf_extensions, "find_spec", lambda name: None)
    said = refusal(document, tmp_path / "box.glb")
    assert "KHR_draco_mesh_compression" in said
    assert "scaled-ig[compressed]" in said


def test_draco_data_that_are_none(tmp_path):
    document = compressed(True)
    view = document.json["meshes"][0]["primitives"][0]["extensions"]["KHR_draco_mesh_compression"]["bufferView"]
    start = document.json["bufferViews"][view]["byteOffset"]
    document.binary[start : start + 5] = b"RUINS"
    assert "KHR_draco_mesh_compression data cannot be read" in refusal(document, tmp_path / "box.glb")


def test_of_another_version(tmp_path):
    document = textured()
    document.json["asset"] = {"version": "1.0"}
    assert "version '1.0'" in refusal(document, tmp_path / "box.gltf")
    document.json["asset"] = {"version": "2.1", "minVersion": "2.1"}
    assert "needs '2.1'" in refusal(document, tmp_path / "box.gltf")
    content = bytearray(textured().glb())
    content[4] = 1
    (tmp_path / "box.glb").write_bytes(content)
    with pytest.raises(UsageError, match="version 1"):
        read_mesh(tmp_path / "box.glb")


def set_key(*keys, value):
    def spoil(document):
        place = document.json
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return spoil


PART = ("meshes", 0, "primitives", 0)
PAINT = ("materials", 0, "pbrMetallicRoughness", "baseColorFactor")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (set_key(*PART, "attributes", "TEXCOORD_0", value=0), "TEXCOORD_0 has 24 x 3 numbers"),
        (set_key(*PART, "attributes", "POSITION", value=99), "accessor 99"),
        (set_key(*PART, "material", value=7), "material 7"),
        (set_key("materials", 0, "alphaMode", value="GLASS"), "alphaMode"),
        (set_key(*PAINT, value=[1, 1]), "are not 4 numbers"),
        (
            set_key("materials", 0, "pbrMetallicRoughness", "baseColorFactor", value=[1, 1, 1, None]),
            "are not 4 numbers",
        ),
        (set_key("nodes", 0, "rotation", value="up"), "are not 4 numbers"),
        (set_key("nodes", 0, "skin", value=0), "skin 0"),
        (set_key("scene", value=3), "scene 3"),
        (set_key("meshes", 0, value={}), "'primitives' is missing"),
        (set_key("extensionsUsed", value=5), "extensionsUsed is 5"),
    ],
)
def test_documents_that_are_wrong_are_refused_with_what_is(tmp_path, spoil, words):
    document = textured()
    spoil(document)
    assert words in refusal(document, tmp_path / "box.glb")


def test_a_face_of_a_vertex_that_is_not_there(tmp_path):
    document = indexed(lambda d: {"indices": d.accessor([0, 1, 65535], "u2")})
    assert "names vertex 65,535, and there are 24" in refusal(document, tmp_path / "box.glb")


def test_a_sparse_item_that_is_not_there(tmp_path):
    document = textured()
    number = document.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    document.json["accessors"][number]["sparse"] = sparse(document, [200], np.zeros((1, 3)))
    assert "names item 200" in refusal(document, tmp_path / "box.glb")
    document.json["accessors"][number]["sparse"]["count"] = 50
    assert "claims 50 items" in refusal(document, tmp_path / "box.glb")


def test_a_joint_that_is_not_there(tmp_path):
    document = skinned(SHARES, joints=np.tile([0, 9, 0, 0], (24, 1)))
    assert "names joint 9, and its skin has 3" in refusal(document, tmp_path / "box.glb")


def test_few_bytes_that_ask_for_many_vertices(tmp_path):
    """By instances, by targets, and by sets of joints of one accessor."""
    document = boxed()
    many = document.add("accessors", {"componentType": 5126, "count": 3_999_999, "type": "VEC3"})
    document.json["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": many}}}
    assert "many times what the file holds" in refusal(document, tmp_path / "box.glb")
    document = morphed([1.0] * 200_000, targets=lambda d: [{"POSITION": 0}] * 200_000)
    assert "many times what the file holds" in refusal(document, tmp_path / "box.glb")
    document = skinned(SHARES)
    attributes = document.json["meshes"][0]["primitives"][0]["attributes"]
    for row in range(1, 50):
        attributes |= {f"{name}_{row}": attributes[f"{name}_0"] for name in ("JOINTS", "WEIGHTS")}
    assert "sets of joints" in refusal(document, tmp_path / "box.glb")


# -- warnings ---------------------------------------------------------------------------------------------------------


def warned(document: Document, path: Path) -> tuple[str, ...]:
    return read_mesh(document.write(path)).warnings


def test_an_extension_that_changes_the_look_is_a_warning(tmp_path):
    document = textured()
    assert warned(document, tmp_path / "box.glb") == ()
    document.extend(False, "KHR_materials_transmission", "KHR_lights_punctual", "KHR_texture_transform")
    (warning,) = warned(document, tmp_path / "box.glb")
    assert "KHR_materials_transmission" in warning


def test_what_is_not_drawn_is_a_warning(tmp_path):
    for make, words in (
        (points_and_lines_beside_triangles, "points and lines"),
        (the_first_scene_where_the_file_names_none, "2 scenes"),
    ):
        assert any(words in warning for warning in warned(make()[0], tmp_path / "file.glb"))
    assert any("TEXCOORD_3" in warning for warning in warned(textured(info={"texCoord": 3}), tmp_path / "file.glb"))


def test_pack_says_and_keeps_the_warnings(tmp_path, capsys):
    (tmp_path / "models").mkdir()
    document = textured()
    document.write(tmp_path / "models" / "plain.glb")
    document.extend(False, "KHR_materials_clearcoat")
    document.write(tmp_path / "models" / "shining.glb")
    document.extend(True, "KHR_materials_volume")
    document.write(tmp_path / "models" / "thick.glb")
    options = {"views": 2, "resolution": 8, "samples_per_pixel": 1, "processes": 1}
    assert pack("meshes", str(tmp_path / "models"), out=str(tmp_path / "pack"), **options) == 0
    said = capsys.readouterr().out
    assert "warning: shining: the glTF extension KHR_materials_clearcoat is not read" in said
    assert "left out: thick: " in said
    index = PackIndex.open(tmp_path / "pack")
    assert [bool(warnings) for warnings in index.warnings] == [False, True]
