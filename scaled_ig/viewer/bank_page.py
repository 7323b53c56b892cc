"""The page of a bank: scenes rendered from where the browser's camera stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from scaled_ig.errors import UsageError
from scaled_ig.viewer import lens
from scaled_ig.viewer.frusta import HELD_OUT, add_frusta
from scaled_ig.viewer.gallery import Gallery
from scaled_ig.viewer.painter import Pace, Painter
from scaled_ig.viewer.scenes import MODES, Look, Scenes, why_not_left_out
from scaled_ig.viewer.views import NoTruth, Views
from scaled_ig.viewer.wish import MOST_SIDE, Wish, size_of, with_truth

SAID_EVERY = 0.5  # seconds between frame rates


class BankPage:
    """What one browser sees of a bank.

    Args:
        client: The browser, a ``viser.ClientHandle``.
        title: Of the panel, Markdown.
        scenes: What can be seen.
        ids: Scenes in order.
        categories: Of each scene; empty where they are not known.
        truth: Where held-out views come from.
    """

    def __init__(
        self, client: Any, title: str, scenes: Scenes, ids: Sequence[str], categories: Sequence[str], truth: NoTruth
    ) -> None:
        self.client, self.scenes, self.ids, self.truth = client, scenes, ids, truth
        self._pace, self._said_at = Pace(), 0.0
        self._painted: tuple[Wish, tuple[int, int]] | None = None
        self._views: Views | None = None  # held-out views of the scene
        self._view: int | None = None  # the one that the camera has been put to
        self._has_arrived = False
        self._frusta: list[Any] = []
        self._build(title, categories)
        self._painter: Painter[Wish] = Painter(self._paint, self._complain)
        client.camera.on_update(lambda _: self._move())
        self._look_at_scene()
        self.reset_camera()

    def close(self) -> None:
        self._painter.close()

    def refresh(self, scenes: Scenes, title: str) -> None:
        """Show the same scenes as they are now."""
        self.scenes, self.title.content = scenes, title
        self.gallery.thumbnail = scenes.thumbnail
        self.gallery.draw()
        self._ask()

    # -- the panel ---------------------------------------------------------------------------------------------------

    def _build(self, title: str, categories: Sequence[str]) -> None:
        gui, has_room = self.client.gui, not lens.is_phone(self.client.camera)
        self.title = gui.add_markdown(title)
        self.state = gui.add_markdown("")
        self.scene = gui.add_text("scene", self.ids[0], hint="Id of the scene that is shown")
        self.mode = gui.add_dropdown("show", MODES)
        with gui.add_folder("Scenes", expand_by_default=has_room):
            self.other = gui.add_text("mix with", "", hint="Id of another scene of the same version")
            self.share = gui.add_slider("share of it", 0.0, 1.0, 0.01, 0.5)
            self.gallery = Gallery(gui, self.ids, categories, self.scenes.thumbnail, (self.scene, self.other))
        with gui.add_folder("Held-out views", expand_by_default=has_room):
            self.why_no_truth = gui.add_markdown("")
            self.view = gui.add_slider("view", 0, 1, 1, 0, hint="Puts the camera where the view was taken from")
            self.nearest = gui.add_button("nearest view")
            self.compare = gui.add_dropdown("truth", ("mixed in", "on the left"))
            self.truth_share = gui.add_slider("share of it", 0.0, 1.0, 0.01, 0.5)
            self.cameras = gui.add_checkbox("cameras", False, hint="Where the views were taken from; click one")
        with gui.add_folder("Planes", expand_by_default=False):
            self.kinds = {kind: gui.add_checkbox(kind, True) for kind in ("micro", "macro")}
            self.why_all_planes = gui.add_markdown("")
        with gui.add_folder("Window", expand_by_default=False):
            reset = gui.add_button("camera back to the front")
            dark = gui.add_checkbox("dark", False)
        self.scene.on_update(lambda _: self._look_at_scene())
        for control in (self.mode, self.share, self.compare, self.truth_share, *self.kinds.values()):
            control.on_update(lambda _: self._ask())
        self.other.on_update(lambda _: self._mix())
        self.view.on_update(lambda _: self._go(int(self.view.value)))
        self.nearest.on_click(lambda _: self._go_nearest())
        self.cameras.on_update(lambda _: self._show_cameras())
        reset.on_click(lambda _: self.reset_camera())
        dark.on_update(lambda _: gui.configure_theme(dark_mode=dark.value, show_logo=False, show_share_button=False))

    def reset_camera(self) -> None:
        """Put the camera to where thumbnails are seen from."""
        view, size = self.scenes.camera_of(self.scene.value), self.scenes[self.scene.value].model.image_size
        lens.go_to(self.client, view, size)

    def _complain(self, sentence: str) -> None:
        self.state.content = f"**{sentence}**"

    # -- what is looked at -------------------------------------------------------------------------------------------

    def _look_at_scene(self) -> None:
        """Another id stands in the field; while it is being typed there may be no such scene."""
        name = self.scene.value
        if name not in self.scenes:
            self._complain(f"there is no scene {name!r}")
            return
        model = self.scenes[name].model
        reasons = {kind: why_not_left_out(model, kind) for kind in self.kinds}
        for kind, control in self.kinds.items():
            control.disabled = bool(reasons[kind])
        self.why_all_planes.content = next(filter(None, reasons.values()), "")
        self._find_truth(name)
        self.gallery.draw()
        self._ask()

    def _mix(self) -> None:
        if self.other.value and self.other.value not in self.scenes:
            self._complain(f"there is no scene {self.other.value!r}")
            return
        self.gallery.draw()
        self._ask()

    def _look(self) -> Look:
        left_out = {kind for kind, control in self.kinds.items() if not control.value and not control.disabled}
        other = self.other.value if self.other.value in self.scenes else ""
        return Look(self.scene.value, self.mode.value, other, self.share.value, frozenset(left_out))

    # -- held-out views ----------------------------------------------------------------------------------------------

    def _find_truth(self, name: str) -> None:
        self._view = None
        try:
            self._views = self.truth.views(name)
            self.why_no_truth.content = ""
        except UsageError as error:
            self._views, self.why_no_truth.content = None, str(error)
        controls = (self.view, self.nearest, self.compare, self.truth_share, self.cameras)
        for control in controls:
            control.visible = self._views is not None
        if self._views is not None:
            self.view.max = max(1, len(self._views) - 1)
            self.view.disabled = len(self._views) == 1
        self._show_cameras()

    def _show_cameras(self) -> None:
        for handle in self._frusta:
            handle.remove()
        self._frusta = []
        if self._views is not None and self.cameras.value:
            views = self._views
            self._frusta = add_frusta(self.client, views.cameras, views.pictures, [HELD_OUT] * len(views), self._go)

    def _go_nearest(self) -> None:
        if self._views is not None:
            self._go(lens.nearest(self._views.cameras, self.client.camera.position))

    def _go(self, number: int) -> None:
        """Put the camera to a held-out view, and show its truth until it is moved."""
        if self._views is None:
            return
        number = min(number, len(self._views) - 1)
        if self.view.value != number:
            self.view.value = number  # which calls this again
            return
        self._view, self._has_arrived = number, False
        lens.go_to(self.client, self._views.cameras[number : number + 1], self._views.size)
        self._ask()

    # -- pictures ----------------------------------------------------------------------------------------------------

    def _move(self) -> None:
        if self._view is not None and self._views is not None:
            is_there = lens.is_at(self.client.camera, self._views.cameras[self._view : self._view + 1])
            if self._has_arrived and not is_there:
                self._view = None
            self._has_arrived = self._has_arrived or is_there
        self._ask()

    def _ask(self) -> None:
        camera, number, views = self.client.camera, self._view, self._views
        if self.scene.value not in self.scenes:
            return
        window, look = (camera.image_height, camera.image_width), self._look()
        if number is None or views is None:
            self._painter.ask(Wish(look, lens.camera_of(camera), window))
            return
        cameras = lens.window_around(views.cameras[number : number + 1], views.size, camera.aspect)
        is_split, share = self.compare.value == "on the left", self.truth_share.value
        self._painter.ask(Wish(look, cameras, window, views.pictures[number], share, is_split))

    def _paint(self, wish: Wish, seconds: float) -> None:
        model = self.scenes[wish.look.scene].model
        factor, side = model.autoencoder.image_multiple, self._pace.side(seconds, MOST_SIDE)
        size = size_of(wish, model.image_size, factor, model.is_rgb, side)
        if self._painted is not None and self._painted[0] is wish and self._painted[1] >= size:
            return
        start = time.perf_counter()
        picture = with_truth(self.scenes.draw(wish.look, wish.cameras, size), wish)
        self.client.scene.set_background_image(picture, format="jpeg", jpeg_quality=90)
        self.client.flush()
        self._pace.note(size[0] * size[1], time.perf_counter() - start)
        self._painted = wish, size
        self._say(size)

    def _say(self, size: tuple[int, int]) -> None:
        now = time.perf_counter()
        if now - self._said_at > SAID_EVERY:
            self._said_at = now
            rate = self._pace.frames_per_second
            self.state.content = f"{size[1]} × {size[0]} pixels" + (f", {rate:.0f} frames/s" if rate else "")
