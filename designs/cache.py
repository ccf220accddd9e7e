# SPDX-License-Identifier: Apache-2.0
"""Where what was computed once is kept for later runs."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

__all__ = ["cache_folder", "digest"]


def cache_folder() -> Path:
    """Folder for what builds share: ``HWGEN_CACHE``, or where the system keeps a user's caches."""
    chosen = os.environ.get("HWGEN_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hwgen"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hwgen"


def digest(*parts: str | bytes) -> str:
    """Return 16 hex digits that stand for the parts, in order."""
    state = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "little"))
        state.update(raw)
    return state.hexdigest()[:16]
