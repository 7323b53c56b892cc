"""Cars: packs of ShapeNet or of any other vehicles, views on the upper hemisphere."""

from typing import ClassVar

from data_modules.base import MultiViewDataModule


class ShapeNetCars(MultiViewDataModule):
    """Views of cars, 160 a scene in the papers."""

    how_to_get: ClassVar[str] = (
        "scaled-ig pack meshes MODELS --out PACK with meshes of your own, scaled-ig pack shapenet FOLDER --out PACK "
        "with ShapeNetCore (registration at shapenet.org), or without any data: scaled-ig synthesize cars --scenes 24 "
        "--out data/shapenet, then scaled-ig pack shapenet data/shapenet --views 40 --out PACK"
    )
