"""Banks that say something else than was written."""

import sqlite3
from contextlib import closing
from pathlib import Path


def change_last_scene(bank: Path, column: str, value: object) -> None:
    """Change a column of the last row of a bank's scene table."""
    (file,) = bank.glob("scenes-*.sqlite")
    with closing(sqlite3.connect(file)) as connection, connection:
        last = "position = (SELECT MAX(position) FROM scenes)"
        connection.execute(f"UPDATE scenes SET {column} = ? WHERE {last}", (value,))
