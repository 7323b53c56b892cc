"""``scaled-ig check``: is a pack whole, and does it look right?"""


def check(pack: str, sheet: str | None = None) -> int:
    """Verifies a pack and draws a contact sheet with the world's axes.

    Args:
        pack: folder of the pack.
        sheet: PNG file of the contact sheet; contact_sheet.png in the pack unless given.

    Returns:
        Exit code: 0 for a sound pack, 1 if there are findings. A pack that cannot be opened raises ``UsageError``,
        which ends the program with code 2.
    """
    from pathlib import Path

    from data_modules.check import draw_contact_sheet, find_faults
    from data_modules.layout import PackIndex

    index = PackIndex.open(pack)
    faults = find_faults(index)
    for fault in faults:
        print(fault)
    verdict = f"{len(faults)} findings" if faults else "sound"
    height, width = index.image_size
    print(f"{pack}: {index.num_scenes} scenes, {index.offsets[-1]} views of {height}x{width} pixels, {verdict}")
    path = Path(sheet) if sheet is not None else Path(pack) / "contact_sheet.png"
    draw_contact_sheet(index, path)
    print(path)
    return 1 if faults else 0
