"""``scaled-ig synthesize``: data for a machine that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from scaled_ig.commands import counted
from scaled_ig.errors import UsageError
from scaled_ig.ranges import Count, Seed, checked

DEFAULT_CARS = 24


@checked
def synthesize(kind: Literal["cars", "faces"], *, out: str, scenes: Count | None = None, seed: Seed = 0) -> int:
    """Write procedural cars (a ShapeNetCore v2 tree) or a morphable head (Basel h5 layout).

    Examples:
        scaled-ig synthesize cars --out data/shapenet
        scaled-ig synthesize faces --out data/faces

    Args:
        kind: ``cars`` writes one folder a car; ``faces`` writes one model, from which ``pack basel`` draws identities.
        out: Folder to write into. What is complete there is kept.
        scenes: Number of cars, 24 by default; has no place with ``faces``.
        seed: Names a set of cars: car k of a set is the same whatever ``scenes`` is. Has no effect with ``faces``.

    Returns:
        Exit status 0.

    Raises:
        UsageError: An option that has no meaning for ``kind``, or a folder that cannot be written.
    """
    write = _synthesize_cars if kind == "cars" else _synthesize_faces
    try:
        return write(Path(out), scenes, seed)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written ({error.strerror or error}); choose another folder") from None


def _synthesize_cars(out: Path, scenes: int | None, seed: int) -> int:
    from data_modules.synthesize.cars import write_cars

    count = DEFAULT_CARS if scenes is None else scenes
    written = write_cars(out, count, seed)
    kept = f", kept {count - written}" if written < count else ""
    print(f"wrote {counted(written, 'car')}{kept} below {out}; next: scaled-ig pack shapenet {out} --out PACK")
    return 0


def _synthesize_faces(out: Path, scenes: int | None, seed: int) -> int:
    from data_modules.synthesize.faces import write_face_model

    if scenes is not None or seed != 0:
        option = f"--scenes {scenes}" if scenes is not None else f"--seed {seed}"
        raise UsageError(
            f"{option} has no effect with faces, which writes one model: "
            "give it to scaled-ig pack basel, which draws the identities"
        )
    path = out / "face_model.h5"
    follow_up = f"next: scaled-ig pack basel {path} --scenes 24 --out PACK"
    if path.exists():
        print(f"kept {path}; {follow_up}")
        return 0
    vertices, triangles = write_face_model(path)
    print(f"wrote {path} with {vertices} vertices and {triangles} triangles; {follow_up}")
    return 0
