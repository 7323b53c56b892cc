"""Scenes of a bank as files that other programs read: a function ``write_NAME`` for each format.

Each takes ``bank``, which is opened; ``ids`` of scenes that have the same shared parts; ``out``, the file or folder to
write; and ``progress``, which is told the number of scenes that are done. Then come options of its own, under the names
that the verb has for them. It returns a sentence that says what was written.
"""

FORMATS = {
    "npz": "arrays",
    "safetensors": "arrays",
    "hf": "hub",
    "official": "official",
    "mesh": "mesh",
    "pointcloud": "mesh",
    "video": "views",
    "views": "views",
    "nerfstudio": "views",
}
"""Module of each format."""
SCENE_BY_SCENE = {"mesh", "pointcloud", "video", "views", "nerfstudio"}
"""Formats of a file or a folder for each scene, whose export goes on where it was interrupted."""
