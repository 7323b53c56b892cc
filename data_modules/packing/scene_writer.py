"""Makes one scene of a pack: loads it, renders it if it is a mesh, and writes down what came of it."""

import math
from dataclasses import dataclass

import numpy as np

from data_modules import layout
from data_modules.packing.parts import Parts
from data_modules.packing.shards import write_scene
from data_modules.raycast import RayCaster, draw_cameras
from data_modules.sources.base import Mesh, PosedViews, SceneSource, scene_generator
from scaled_ig.errors import UsageError

TOO_LARGE = "it takes more memory than its process may have: simplify it, or give more --memory_per_process"


@dataclass(frozen=True)
class RenderSettings:
    """How views of meshes are made.

    Attributes:
        views: cameras a scene.
        azimuth: degrees, lowest and highest; 0 looks at the front.
        elevation: degrees, lowest and highest, within [-90, 90].
        resolution: height and width in pixels.
        samples_per_pixel: a square number of rays.
        camera_distance: from the origin; above 0.5, the ball that holds the object.
        seed: of the cameras.
    """

    views: int
    azimuth: tuple[float, float]
    elevation: tuple[float, float]
    resolution: int = 128
    samples_per_pixel: int = 16
    camera_distance: float = 1.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.views < 1 or self.resolution < 1:
            raise UsageError(f"--views {self.views} and --resolution {self.resolution} must be positive")
        if not math.isfinite(self.camera_distance):
            raise UsageError(f"--camera_distance {self.camera_distance} is no distance: give a number above 0.5")
        if self.camera_distance <= layout.SCENE_RADIUS:
            raise UsageError(f"--camera_distance {self.camera_distance} is inside the object: give more than 0.5")
        if not all(map(math.isfinite, self.azimuth)):
            raise UsageError(f"--azimuth {self.azimuth} must be two angles in degrees")
        if not -90 <= self.elevation[0] <= self.elevation[1] <= 90:
            raise UsageError(f"--elevation {self.elevation} must be two ascending angles from -90 to 90 degrees")


@dataclass(frozen=True)
class SceneWriter:
    """Makes one scene after the other; picklable, sent to every worker once."""

    source: SceneSource
    scene_ids: list[str]
    parts: Parts
    render: RenderSettings | None

    def write(self, row: int) -> None:
        """Leaves the scene, or the reason why it is left out, among the parts.

        Raises:
            OSError: the disk does not take it; that is no fault of the scene.
        """
        scene_id = self.scene_ids[row]
        self.parts.begun(row).touch()
        try:
            scene, record = self.source.load(scene_id)
            views = self._render(scene, scene_id) if isinstance(scene, Mesh) else scene
        except MemoryError:
            self.parts.leave_out(row, scene_id, TOO_LARGE)
        except UsageError as error:
            self.parts.leave_out(row, scene_id, str(error))
        except Exception as error:  # files of others break readers in ways that nobody foresees
            self.parts.leave_out(row, scene_id, f"{type(error).__name__}: {error}")
        else:
            seed = {} if self.render is None else {"seed": self.render.seed}
            warnings = {"warnings": [*dict.fromkeys(scene.warnings)]} if scene.warnings else {}
            try:
                write_scene(self.parts.views(row), views, record | seed | warnings)
            except MemoryError:
                self.parts.leave_out(row, scene_id, TOO_LARGE)

    def _render(self, mesh: Mesh, scene_id: str) -> PosedViews:
        render = self.render
        assert render is not None
        generator = scene_generator(render.seed, scene_id)
        poses, intrinsics = draw_cameras(
            render.views, render.camera_distance, render.azimuth, render.elevation, generator
        )
        caster = RayCaster(mesh, render.samples_per_pixel)
        size = (render.resolution, render.resolution)
        rendered = [caster.render(pose, pinhole, size) for pose, pinhole in zip(poses, intrinsics, strict=True)]
        images, masks = map(np.stack, zip(*rendered, strict=True))
        return PosedViews(images, poses, intrinsics, masks=masks if (masks < 255).any() else None)
