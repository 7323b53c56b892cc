"""Who may import whom. The table is the design's; a file that is not in it has no place yet."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Floors from the ground up: their rooms, a module or a folder of scaled_ig each, and what they may import beside torch,
# numpy and, from floor to floor, all that is allowed below.
GROUND = (
    "errors", "allowed", "ranges", "documents", "files", "randomness", "cameras", "batch", "finite", "progress",
    "distributed", "forks",
    "native",
)  # fmt: skip
FLOORS = [
    (GROUND, {"yaml"}),
    (("representations", "autoencoders", "optim"), set()),
    (("rendering",), set()),
    (("scene_model",), set()),
    (("bank", "metrics", "phases"), {"safetensors", "lightning"}),
    (("callbacks",), {"wandb", "PIL", "imageio"}),
    (("runs",), {"data_modules"}),
    (("report", "export", "viewer"), {"matplotlib", "jinja2"}),
    (
        ("class_paths", "complaints", "parsing", "presets", "commands", "completion", "cli", "fitting", "__main__"),
        {"jsonargparse", "shtab", "packaging", "wandb_workspaces"},
    ),
]
ORDERED = {0, 4, 7, 8}  # floors where a room may also import those before it
ONLY_THERE = {
    "progress": {"tqdm"},
    "autoencoders": {"diffusers", "huggingface_hub", "safetensors"},
    "rendering": {"triton"},
    "export": {"huggingface_hub", "pyarrow", "skimage"},
    "metrics": {"torchmetrics", "lpips"},
    "viewer": {"viser"},
}
DATA_MODULES = {"lightning", "h5py", "PIL", "mapbox_earcut", "DracoPy", "embreex", "cv2"}
# The same of data_modules, which stands beside the house on its ground floor.
DATA_FLOORS = [
    {"sources", "synthesize", "processes"},
    {"layout", "raycast"},
    {"packing", "streaming"},
    {"checking", "base"},
    {"shapenet", "basel"},
]
FILES = [path.relative_to(ROOT) for folder in ("scaled_ig", "data_modules") for path in (ROOT / folder).rglob("*.py")]


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, at its head or within functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            is_package = node.module in ("scaled_ig", "data_modules")
            names |= {f"{node.module}.{alias.name}" if is_package else str(node.module) for alias in node.names}
    return names


def room_of(path: Path) -> str:
    """``data_modules`` is one room, beside the house."""
    return "data_modules" if path.parts[0] == "data_modules" else path.with_suffix("").parts[1]


def place(room: str) -> tuple[int, int]:
    """Floor of a room and its place there."""
    for floor, (rooms, _) in enumerate(FLOORS):
        if room in rooms:
            return floor, rooms.index(room)
    raise AssertionError(f"scaled_ig/{room} has no place in the table of floors")


def data_room(name: str) -> tuple[int, str]:
    """Floor and name of a room of ``data_modules``; its head is on the ground."""
    floors = [floor for floor, rooms in enumerate(DATA_FLOORS) if name in rooms or name == "__init__"]
    assert floors, f"data_modules/{name} has no place in the table of floors"
    return floors[0], name


def arrows() -> dict[str, set[str]]:
    """Rooms that each room imports."""
    rooms: dict[str, set[str]] = {}
    for path in FILES:
        parts = [name.split(".") for name in imports(path)]
        imported = {name[1] for name in parts if name[0] == "scaled_ig" and name[1] != "__version__"}
        imported |= {"data_modules" for name in parts if name[0] == "data_modules"}
        rooms.setdefault(room_of(path), set()).update(imported - {room_of(path)})
    return rooms


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_come_from_lower_floors(path):
    if path.parts[1] == "__init__.py":
        return  # see test_heads_import_nothing_by_themselves
    for name in imports(path):
        top, *rest = name.split(".")
        if top != "scaled_ig" or rest[0] in ("__version__", room_of(path)):
            continue
        floor, number = place(rest[0])
        if path.parts[0] == "data_modules":
            assert floor == 0, f"{path} imports {name}, which is not on the ground floor"
        else:
            floor_here, number_here = place(room_of(path))
            lower = floor < floor_here or (floor == floor_here and floor in ORDERED and number < number_here)
            assert lower, f"{path} on floor {floor_here} imports {name} on floor {floor}"


@pytest.mark.parametrize("package", ["scaled_ig", "data_modules"])
def test_heads_import_nothing_by_themselves(package):
    code = f"import sys; import {package}; print([name for name in sys.modules if name.partition('.')[0] in BIG])"
    code = "BIG = {'torch', 'numpy', 'lightning', 'yaml', 'scaled_ig', 'data_modules'}; " + code
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert ast.literal_eval(loaded) == [package]


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "data_modules"], ids=str)
def test_data_modules_import_from_lower_floors(path):
    here = data_room(path.with_suffix("").parts[1])
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "data_modules":
            there = data_room(rest[0])
            assert there == here or there[0] < here[0], f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_other_packages_are_those_of_the_floor(path):
    if path.parts[1] == "__init__.py":
        allowed = set()
    elif path.parts[0] == "data_modules":
        allowed = DATA_MODULES | {"data_modules"}
    else:
        room = room_of(path)
        allowed = set().union(*(packages for _, packages in FLOORS[: place(room)[0] + 1]), ONLY_THERE.get(room, set()))
    others = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"scaled_ig", "torch", "numpy"}
    assert others <= allowed, f"{path} imports {sorted(others - allowed)}"


def test_rooms_form_no_circle():
    below = arrows()
    assert {room for rooms, _ in FLOORS for room in rooms} == below.keys() - {"data_modules", "__init__"}
    left = {room: set(rooms) for room, rooms in below.items()}
    while bare := [room for room, rooms in left.items() if not rooms & left.keys()]:
        for room in bare:
            del left[room]
    assert not left, f"these rooms import each other: {sorted(left)}"
