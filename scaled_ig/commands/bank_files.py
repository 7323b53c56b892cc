"""``scaled-ig bank export`` and ``bank read``: scenes for other programs, and of another one."""

from typing import Annotated, Literal

from scaled_ig.commands import counted, listed
from scaled_ig.ranges import Count, Distance, Range, Width, checked

Cells = Annotated[int, Range(16, 512)]


@checked
def export(
    bank: str,
    *,
    format: Literal["npz", "safetensors", "hf", "official", "mesh", "pointcloud", "video", "views", "nerfstudio"],
    out: str,
    scenes: list[str] | str | None = None,
    version: str | None = None,
    push: str | None = None,
    resolution: Cells | None = None,
    points: Count | None = None,
    views: Count | None = None,
    cameras: str | None = None,
) -> int:
    """Writes scenes as files that other programs read.

    Examples:
        scaled-ig bank export runs/mine --format mesh --out meshes
        scaled-ig bank export runs/mine --format safetensors --out planes.safetensors
        scaled-ig bank export runs/mine --format views --out views --scenes car_1,car_2

    Args:
        bank: folder of a bank, or of the run that wrote it.
        format: npz, safetensors: planes and all that renders them, in a file. hf: a data set for the Hugging Face Hub,
            with a card. official: a checkpoint of the papers' own code. The others have files or a folder for each
            scene. mesh: its surface in colour, as GLB with +Y up for browsers, Blender and game engines, and as PLY
            with +Z up for MeshLab, CloudCompare and Open3D. pointcloud: points of its surface, as PLY. video: a film
            from all around. views: images from there, masks and a transforms.json, as scaled-ig pack transforms reads
            them. nerfstudio: the same with OpenGL axes and without masks, as nerfstudio, instant-ngp and Blender's
            readers take them.
        out: file or folder to write, which must not be there or be an empty folder; where a folder of scenes was
            interrupted, the same call goes on with it.
        scenes: ids of scenes with commas between, a JSON list, or a .txt file with one a line; they must have been
            learned with the same shared parts.
        version: all scenes of this version; those of the newest unless one of the two is given.
        push: with hf, the data set of the Hub, USER/NAME, that the folder is pushed to; a new one is private.
        resolution: of a mesh, its cells along the side of a scene, which is 1 wide; 128 unless given.
        points: of a pointcloud, for each scene; 20,000 unless given.
        views: of a video, views or nerfstudio, the number of cameras around a scene; 60 unless given.
        cameras: of views or nerfstudio, a transforms.json or a camera path of nerfstudio whose cameras are taken
            instead, with images of the size that it names.

    Returns:
        Exit code 0.

    Raises:
        UsageError: There is no bank or no such scene, an option has no effect, or the place is taken.
    """
    from scaled_ig.export.verb import export_scenes

    options = {"push": push, "resolution": resolution, "points": points, "views": views, "cameras": cameras}
    print(export_scenes(bank, format, out, None if scenes is None else listed(scenes), version, options))
    return 0


@checked
def read(
    bank: str,
    *,
    checkpoint: str,
    scenes: list[str] | str | None = None,
    autoencoder: str | None = None,
    extent: Distance = 1.0,
    resolution: Width = 128,
) -> int:
    """Makes a bank of a checkpoint that the papers' own code has written, so that its scenes can be rendered.

    Examples:
        scaled-ig bank read theirs/bank --checkpoint theirs/gvae_latest.pt

    Args:
        bank: folder of the bank, made where it is missing; the scenes become its version official.
        checkpoint: gvae_latest.pt.
        scenes: their ids in the order of rows, with commas between, a JSON list, or a .txt file with one a line; those
            of scenes.json beside the checkpoint, or else scene-00000 and so on, unless given.
        autoencoder: config.json of its AutoencoderKL, or the folder that has it; Stable Diffusion 1.5's unless given.
        extent: half of box_warp of its configuration.
        resolution: pixels along each side of an image.

    Returns:
        Exit code 0.

    Raises:
        UsageError: It is no such checkpoint, or the bank cannot be written.
    """
    from pathlib import Path

    from scaled_ig.export.official import read_official

    config = None if autoencoder is None else Path(autoencoder)
    ids = None if scenes is None else listed(scenes)
    opened = read_official(Path(checkpoint), Path(bank), ids, config, extent, resolution)
    print(f"{bank}: {counted(opened.versions['official'].num_scenes, 'scene')} of {checkpoint}")
    return 0
