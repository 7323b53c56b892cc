"""Faces: packs of identities drawn from a morphable model, frontal views."""

from typing import ClassVar

from data_modules.base import MultiViewDataModule


class BaselFaces(MultiViewDataModule):
    """Views of faces, 50 a scene in the papers."""

    how_to_get: ClassVar[str] = (
        "scaled-ig pack basel MODEL.h5 --scenes 2000 --out PACK with a Basel Face Model (registration at "
        "faces.dmi.unibas.ch), or without any data: scaled-ig synthesize faces --out data/faces, then scaled-ig pack "
        "basel data/faces/face_model.h5 --scenes 24 --out PACK"
    )
