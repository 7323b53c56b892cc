"""The page of a pack: where the views of a scene were taken from, with their pictures. It needs no training."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from data_modules.layout import PackIndex
from data_modules.streaming.views import PackViews
from scaled_ig.cameras import orbit
from scaled_ig.errors import UsageError
from scaled_ig.report.pictures import Picture
from scaled_ig.viewer import lens
from scaled_ig.viewer.frusta import HELD_OUT, TRAINED, add_frusta
from scaled_ig.viewer.gallery import Gallery
from scaled_ig.viewer.scenes import FRONT_RIGHT, THUMBNAILS_KEPT, thumbnail
from scaled_ig.viewer.views import Views

BEYOND_MASK = (0.84, 0.89, 0.96)  # what white becomes outside of the mask
PICTURES = ("views", "views and masks", "masks")
SCENES_KEPT = 4


class Pack:
    """Views of a pack, for all browsers.

    Args:
        index: The pack.
    """

    def __init__(self, index: PackIndex) -> None:
        self.index = index
        self.place = {name: scene for scene, name in enumerate(index.scene_ids)}
        self._views = PackViews(index, range(index.num_scenes), with_masks=True)
        self._cameras = PackViews(index, range(index.num_scenes), with_images=False)
        self.views: Callable[[int], Views] = lru_cache(maxsize=SCENES_KEPT)(self._read)
        self.thumbnail = lru_cache(maxsize=THUMBNAILS_KEPT)(self._thumbnail)

    def _read(self, scene: int) -> Views:
        keys = [(scene, view) for view in range(int(self.index.num_views[scene]))]
        return Views.of(self._views.__getitems__(keys))

    def _thumbnail(self, name: str) -> bytes:
        """JPEG of the view that is nearest to where scenes of a bank are seen from."""
        scene = self.place[name]
        keys = [(scene, view) for view in range(int(self.index.num_views[scene]))]
        side = orbit(1, azimuth_range_radians=FRONT_RIGHT).camera_to_world[0, :3, 3]
        view = lens.nearest(self._cameras.__getitems__(keys).cameras, side)
        return thumbnail(Views.of(self._views[scene, view]).pictures[0])


class PackPage:
    """What one browser sees of a pack.

    Args:
        client: The browser, a ``viser.ClientHandle``.
        pack: The views.
    """

    def __init__(self, client: Any, pack: Pack) -> None:
        self.client, self.pack = client, pack
        self._frusta: list[Any] = []
        self._build()
        self._add_world()
        self._look_at_scene()
        self.reset_camera()

    def close(self) -> None:
        """Nothing goes on without the browser."""

    def _build(self) -> None:
        gui, index = self.client.gui, self.pack.index
        gui.add_markdown(f"### {index.path.name}\n{index.num_scenes:,} scenes, {int(index.offsets[-1]):,} views")
        self.scene = gui.add_text("scene", index.scene_ids[0], hint="Id of the scene that is shown")
        self.state = gui.add_markdown("")
        self.pictures = gui.add_dropdown("pictures", PICTURES)
        self.trained = gui.add_checkbox("training views (blue)", True)
        self.held_out = gui.add_checkbox("held-out views (orange)", True)
        with gui.add_folder("Scenes", expand_by_default=not lens.is_phone(self.client.camera)):
            self.gallery = Gallery(gui, index.scene_ids, index.categories, self.pack.thumbnail, (self.scene,))
        reset = gui.add_button("camera back")
        dark = gui.add_checkbox("dark", False)
        self.scene.on_update(lambda _: self._look_at_scene())
        self.pictures.on_update(lambda _: self._draw())
        for control in (self.trained, self.held_out):
            control.on_update(lambda _: self._hide())
        reset.on_click(lambda _: self.reset_camera())
        dark.on_update(lambda _: gui.configure_theme(dark_mode=dark.value, show_logo=False, show_share_button=False))

    def _add_world(self) -> None:
        """The world's axes, X red, Y green, Z blue, as long as the radius of the ball that holds every object."""
        radius = self.pack.index.scene_radius
        self.client.scene.add_frame("/axes", axes_length=radius, axes_radius=0.012 * radius)
        self.client.scene.add_icosphere("/ball", radius, color=(128, 128, 128), opacity=0.12, cast_shadow=False)

    def reset_camera(self) -> None:
        """Look at all cameras from beyond them."""
        distance = 2.2 * float(self._cameras.camera_to_world[:, :3, 3].norm(dim=-1).median())
        with self.client.atomic():
            self.client.camera.position = distance * np.array([0.55, -0.7, 0.45])
            self.client.camera.look_at = np.zeros(3)
            self.client.camera.up_direction = np.array([0.0, 0.0, 1.0])

    def _look_at_scene(self) -> None:
        """Another id stands in the field; while it is being typed there may be no such scene."""
        scene = self.pack.place.get(self.scene.value)
        if scene is None:
            self.state.content = f"**there is no scene {self.scene.value!r}**"
            return
        index = self.pack.index
        train, test = index.split(scene)
        masks = "with masks" if index.masked[scene] else "without masks"
        words = [f"{index.categories[scene]}, {len(train)} training and {len(test)} held-out views, {masks}"]
        self.state.content = "\n\n".join([*words, *(f"**{warning}**" for warning in index.warnings[scene])])
        self._scene, self._test = scene, set(test.tolist())
        self.pictures.disabled = not index.masked[scene]
        self.gallery.draw()
        self._draw()

    def _draw(self) -> None:
        for handle in self._frusta:
            handle.remove()
        try:
            views = self.pack.views(self._scene)
        except UsageError as error:
            self._frusta, self.state.content = [], f"**{error}**"
            return
        self._cameras, self._size = views.cameras, views.size
        pictures = pictures_of(views, self.pictures.value)
        colours = [HELD_OUT if view in self._test else TRAINED for view in range(len(pictures))]
        self._frusta = add_frusta(self.client, views.cameras, pictures, colours, self._go)
        self._hide()

    def _hide(self) -> None:
        for view, handle in enumerate(self._frusta):
            handle.visible = self.held_out.value if view in self._test else self.trained.value

    def _go(self, view: int) -> None:
        lens.go_to(self.client, self._cameras[view : view + 1], self._size)


def pictures_of(views: Views, kind: str) -> Picture:
    """Pictures uint8 [V, H, W, 3] of views.

    Args:
        views: The views.
        kind: One of ``PICTURES``; ``views and masks`` tints what lies outside of the mask.
    """
    if views.masks is None or kind == "views":
        return views.pictures
    if kind == "masks":
        return np.repeat(views.masks[..., None], 3, -1)
    beyond = 1 - views.masks[..., None] / 255
    return (views.pictures * (1 - beyond * (1 - np.array(BEYOND_MASK)))).round().astype(np.uint8)
