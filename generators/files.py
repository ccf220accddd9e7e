"""Files and folders that are whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from designs.errors import DesignError
from generators import manifest

__all__ = ["check_out", "new_folder", "write"]


def write(path: Path, text: str) -> None:
    """Write a whole file or none of it; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_out(out: Path) -> None:
    """Raise DesignError unless ``out`` is free, empty, or a folder that hwgen wrote."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise DesignError(f"{out} exists and is not a folder; give another by -o")
    if any(out.iterdir()) and not manifest.is_ours(out):
        raise DesignError(f"{out} exists and was not written by hwgen; give another by -o")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes the name ``out`` at the end of the block, if nothing went wrong in it.

    What had that name goes only when the new one is there.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)
        if out.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
            out.rename(old / "build")
            folder.rename(out)
            shutil.rmtree(old, ignore_errors=True)
        else:
            folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
