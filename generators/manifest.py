# SPDX-License-Identifier: Apache-2.0
"""The manifest: what a folder was built from, by which version; how an unchanged build is recognised.

Only the standard library is imported here, so that finding a build unchanged costs next to nothing.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from designs.errors import DesignError

__all__ = ["FILE", "alteration", "fingerprint", "is_ours", "made_from", "unchanged", "write"]

FILE = "manifest.json"
VOLATILE = ("report.json",)
"""Files whose size may differ between two builds of the same input: the report holds its build time."""
REWRITTEN = (*VOLATILE, "report.html")
"""Files that other commands write anew: nothing but their presence can be expected."""

_SOURCES = ("designs", "schedules", "hw", "generators", "hls_templates", "sim")
_SUFFIXES = (".py", ".j2", ".yaml", ".h", ".cpp")
_TOOLS = ("amaranth", "pyosys", "jinja2", "numpy")


def fingerprint(inputs: Mapping[str, Any], files: Mapping[str, Path]) -> dict[str, Any]:
    """What decides the content of a build: the request, files it reads, our own sources, tool versions.

    Large files count by size, time of change, and their first mebibyte.
    """
    root = Path(__file__).parent.parent
    own = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in _SUFFIXES and "__pycache__" not in path.parts:
                own.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for path in _own_elements():
        own.update(path.read_bytes() + b"\0")
    return {
        "request": dict(inputs),
        "files": {name: _of_file(path) for name, path in sorted(files.items())},
        "sources": own.hexdigest(),
        "tools": {tool: metadata.version(tool) for tool in _TOOLS},
    }


def _own_elements() -> list[Path]:
    """The files in which a user defined processing elements; nothing is imported to find out that there are none."""
    module = sys.modules.get("hw.arrays.own_pe")
    found = set()
    for name, element in module.OWN_PES.items() if module else ():
        try:
            found.add(Path(inspect.getfile(element)))
        except TypeError:
            raise DesignError(f"processing element {name} must be defined in a file") from None
    return sorted(found)


def _of_file(path: Path) -> str:
    state, digest = path.stat(), hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
    when = "" if state.st_size <= 1 << 20 else f":{state.st_mtime_ns}"
    return f"{state.st_size}{when}:{digest.hexdigest()}"


def is_ours(folder: Path) -> bool:
    """Whether hwgen wrote this folder."""
    return _read(folder).get("generator") == "hwgen"


def unchanged(folder: Path, key: Mapping[str, Any]) -> bool:
    """Whether ``folder`` holds a complete build of the same fingerprint."""
    manifest = _read(folder)
    if manifest.get("fingerprint") != json.loads(json.dumps(key)):
        return False
    return all(
        (folder / name).is_file() and size in (None, (folder / name).stat().st_size)
        for name, size in manifest.get("outputs", {}).items()
    )


def made_from(folder: Path, files: Mapping[str, Path]) -> bool:
    """Whether each of these files is one that a finished folder was made from, unchanged since."""
    known = _read(folder).get("fingerprint", {}).get("files", {})
    return bool(files) and all(known.get(name) == _of_file(path) for name, path in files.items())


def alteration(folder: Path, within: str = "rtl") -> str | None:
    """What differs in a folder from what was finished there, in a few words; None: nothing.

    ``within``: a folder in it where no file may have been added either.
    """
    manifest = _read(folder)
    if manifest.get("generator") != "hwgen" or "outputs" not in manifest:
        return f"it has no {FILE} of a finished build"
    if "digests" not in manifest:
        return f"its {FILE} has no digests: an older version wrote it"
    for name in manifest["outputs"]:
        if not (folder / name).is_file():
            return f"{name} is missing"
    for name, digest in manifest["digests"].items():
        if _digest(folder / name) != digest:
            return f"{name} is not what was built"
    for path in sorted((folder / within).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in manifest["outputs"]:
            return f"{name} was added"
    return None


def write(folder: Path, key: Mapping[str, Any]) -> None:
    """Write the manifest of a finished folder."""
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / FILE
    }
    outputs = {
        name: None if path.name in VOLATILE else path.stat().st_size for name, path in files.items()
    }
    digests = {name: _digest(path) for name, path in files.items() if name not in REWRITTEN}
    text = {"generator": "hwgen", "fingerprint": key, "outputs": outputs, "digests": digests}
    (folder / FILE).write_text(json.dumps(text, indent=2) + "\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
