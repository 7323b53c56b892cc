"""Who may import whom. The table is the design's; a file that is not in it has no place yet."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = {"torch", "numpy"}
PICTURES = {"PIL", "matplotlib", "imageio"}

# Rooms of a floor in the order in which they stand; a room is a module or a folder of them.
FLOORS = [
    [
        "errors", "cores", "agreement", "cameras", "batch", "ownership", "randomness", "native", "occupancy",
        "sampling", "compositing", "losses", "metrics", "schedules", "run_folder",
    ],
    ["representations", "field_head", "autoencoders", "optim"],
    [
        "kernels", "fields", "renderer", "scene_model", "description", "latent_cache", "scene_records", "bank_files",
        "scene_bank", "accounting", "cost", "evaluation", "nearest_view", "consistency", "bases",
    ],
    ["phases"],
    ["callbacks"],
    ["report", "commands", "cli"],
]  # fmt: skip
# On these floors a file may also import those that stand before it.
ORDERED = {0, 2, 5}
THIRD_PARTY = [BASE, BASE, BASE | {"safetensors"}]
THIRD_PARTY += [THIRD_PARTY[2] | {"lightning"}]
THIRD_PARTY += [THIRD_PARTY[3] | PICTURES | {"wandb", "tqdm"}]
THIRD_PARTY += [THIRD_PARTY[4] | {"jsonargparse", "yaml"}]
ROOMS_OWN = {
    "metrics": {"torchmetrics", "lpips"},
    "autoencoders": {"diffusers"},
    "kernels": {"triton"},
}
DATA_MODULES = BASE | {"lightning", "h5py", "PIL", "trimesh", "embreex", "tqdm"}
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


def place(room: str) -> tuple[int, int]:
    """Floor of a room and its place there."""
    for floor, rooms in enumerate(FLOORS):
        if room in rooms:
            return floor, rooms.index(room)
    raise AssertionError(f"scaled_ig/{room} has no place in the table of floors")


def room_of(path: Path) -> str:
    return path.with_suffix("").parts[1]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_come_from_lower_floors(path):
    if path.parts[1] == "__init__.py":
        assert not imports(path), "the packages' heads import nothing"
        return
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "scaled_ig" and rest[0] != "__version__":
            floor, number = place(rest[0])
            if path.parts[0] == "data_modules":
                assert floor == 0, f"{path} imports {name}, which is not on floor 0"
            elif rest[0] != room_of(path):
                own_floor, own_number = place(room_of(path))
                lower = floor < own_floor or (floor == own_floor and floor in ORDERED and number < own_number)
                assert lower, f"{path} on floor {own_floor} imports {name} on floor {floor}"
        elif top == "data_modules" and path.parts[0] == "scaled_ig":
            assert place(room_of(path))[0] == 5, f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_other_packages_are_those_of_the_floor(path):
    found = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"scaled_ig", "data_modules"}
    if path.parts[0] == "data_modules":
        allowed = DATA_MODULES
    elif path.parts[1] == "__init__.py":
        allowed = set()
    else:
        allowed = THIRD_PARTY[place(room_of(path))[0]] | ROOMS_OWN.get(room_of(path), set())
    assert found <= allowed, f"{path} imports {sorted(found - allowed)}"


def test_the_table_names_what_there_is():
    rooms = {path.with_suffix("").parts[1] for path in FILES if path.parts[0] == "scaled_ig"} - {"__init__"}
    assert rooms == {room for floor in FLOORS for room in floor}
