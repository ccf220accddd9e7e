# SPDX-License-Identifier: Apache-2.0
"""Files and folders that are whole or not there."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from designs.errors import DesignError
from generators import manifest

__all__ = ["check_out", "locked", "new_folder", "write"]


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
def locked(out: Path) -> Iterator[None]:
    """Nobody else writes the folder ``out`` inside the block.

    The lock is a file beside it, of the operating system: it ends with its process, however that ends.

    Raises
    ------
    DesignError
        If another process has it.
    """
    made = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    path = out.parent / f".{out.name}.lock"
    while True:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            continue  # somebody took the empty folder away between our two steps
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DesignError(
                f"{out} is being written by another hwgen{f' (process {owner})' if owner else ''}; "
                "wait for it, or give another folder by -o"
            ) from None
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                break
        os.close(descriptor)  # its owner took it away between our two steps
    try:
        os.truncate(descriptor, 0)
        with suppress(OSError):  # a full disk does not matter: who holds it is a courtesy
            os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with suppress(OSError):  # one that is not empty ends it: something was written
            for folder in made:
                folder.rmdir()


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes the name ``out`` at the end of the block, if nothing went wrong in it.

    What had that name goes only when the new one is there. What a process left behind that was killed in such a
    block goes, too.

    Raises
    ------
    DesignError
        If another process is in such a block for the same name.
    """
    with locked(out):
        _tidy(out)
        folder = Path(tempfile.mkdtemp(prefix=f"{_prefix(out)}new-", dir=out.parent))
        try:
            yield folder
            folder.chmod(0o755)
            _put(folder, out)
        finally:
            _remove(folder)


def _prefix(out: Path) -> str:
    """What the names of folders on their way to or from ``out`` begin with."""
    return f".{out.name}.hwgen-"


def _tidy(out: Path) -> None:
    """Remove what killed processes left behind; nobody is at work there."""
    for left in sorted(out.parent.glob(f"{_prefix(out).replace('[', '[[]')}*")):
        if (left / "old").is_dir() and not out.exists():
            (left / "old").rename(out)
        _remove(left)


def _remove(folder: Path) -> None:
    """Remove a folder, or a link to one."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, out: Path) -> None:
    """Give a folder the name ``out``; what had it goes."""
    if not out.exists():
        folder.rename(out)
    elif not _exchange(folder, out):
        old = Path(tempfile.mkdtemp(prefix=f"{_prefix(out)}old-", dir=out.parent))
        out.rename(old / "old")
        folder.rename(out)
        _remove(old)


def _exchange(one: Path, two: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system cannot do that."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(one), here, os.fsencode(two), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), str(two))
