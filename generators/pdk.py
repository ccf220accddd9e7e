# SPDX-License-Identifier: Apache-2.0
"""The liberty files of installed process design kits, where the installer ``ciel`` puts them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from designs.errors import DesignError

__all__ = ["PDKS", "find"]

PDKS: Mapping[str, tuple[str, ...]] = {
    # Name, as ciel takes it -> liberty files of the typical corner, the preferred first.
    "ihp-sg13g2": (
        "ihp-sg13g2/libs.ref/sg13g2_stdcell/lib/sg13g2_stdcell_typ_1p20V_25C.lib",
    ),
    "sky130": tuple(
        f"{variant}/libs.ref/sky130_fd_sc_hd/lib/sky130_fd_sc_hd__tt_025C_1v80.lib"
        for variant in ("sky130A", "sky130B")
    ),
}  # fmt: skip


def find(name: str) -> Path:
    """Return the liberty file of a kit that is installed and enabled.

    Parameters
    ----------
    name : a key of `PDKS`

    Raises
    ------
    DesignError
        If there is no such kit, or it is not installed; says how to get it.
    """
    if name not in PDKS:
        raise DesignError(f"--pdk {name} is not known (known: {', '.join(PDKS)})")
    given = os.environ.get("PDK_ROOT")
    # ciel was called volare before.
    roots = [Path(given)] if given else [Path.home() / ".ciel", Path.home() / ".volare"]
    for root in roots:
        for liberty in PDKS[name]:
            if (root / liberty).is_file():
                return root / liberty
    raise DesignError(
        f"--pdk {name} is not below {' or '.join(map(str, roots))}: pip install ciel; "
        f"ciel ls-remote --pdk-family {name}; ciel enable --pdk-family {name} VERSION"
    )
