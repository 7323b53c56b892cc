"""HDF5 files on a disk that may be full."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from data_modules import layout


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Opens a new file of a pack for writing.

    Raises:
        OSError: the disk did not take all of it.
    """
    with _Disk(path) as disk:
        try:
            with h5py.File(disk, "w", libver=layout.LIBVER) as file:
                yield file
        except Exception:
            if disk.error is None:
                raise
        if disk.error is not None:
            raise disk.error


class _Disk(io.FileIO):
    """A file that takes whatever it is given, and remembers the first ``error``.

    The HDF5 library keeps what it could not write, tries once more when the process ends, and crashes it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        content = memoryview(data).cast("B")
        written = 0
        try:
            while self.error is None and written < len(content):
                written += super().write(content[written:])
        except OSError as error:
            self._remember(error)
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self._remember(error)
        return size or 0

    def _remember(self, error: OSError) -> None:
        self.error = OSError(error.errno, os.strerror(error.errno or 0), self.name)
