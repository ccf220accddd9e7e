# SPDX-License-Identifier: Apache-2.0
"""Golden models by the unit that they are of, and how to find the one of a module that hwgen wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hw.arrays.column import ColumnArray
from hw.arrays.cube import CubeArray
from hw.arrays.systolic_os import MatrixArray, SystolicOsArray
from hw.arrays.systolic_ws import SystolicWsArray
from hw.arrays.tree import TreeArray
from hw.core.buffers import BankedBuffer
from hw.core.headers import HeaderBuffers
from hw.memory.buffers import Queue, RingMemory
from hw.memory.burst import BurstCutter
from hw.sfu.activation import Activation, ActivationPair
from hw.sfu.argmax import ArgMax
from hw.sfu.layernorm import InverseRoot, NormLanes, NormSums
from hw.sfu.memory import WordMemory
from hw.sfu.product import GatedProduct
from hw.sfu.requantise import Requantise
from hw.sfu.rotary import Rotary
from hw.sfu.softmax import Exp2Lanes, Reciprocal, RowMaximum
from hw.unit import Unit
from sim.verify.references import arrays, memory, sfu
from sim.verify.references.base import Columns, Outcome, Reference, Segment, segments

__all__ = [
    "NOTES",
    "Columns",
    "Outcome",
    "Reference",
    "Segment",
    "find_reference",
    "reference_of",
    "segments",
]

_ENGINES: tuple[type[Unit], ...] = (
    ColumnArray, CubeArray, MatrixArray, SystolicOsArray, SystolicWsArray, TreeArray,
)  # fmt: skip
_REFERENCES: dict[type[Unit], Callable[[Any], Reference]] = {
    **dict.fromkeys(_ENGINES, arrays.EngineReference),
    Queue: memory.QueueReference,
    BurstCutter: memory.BurstCutterReference,
    **dict.fromkeys((RingMemory, WordMemory, BankedBuffer), memory.RamReference),
    HeaderBuffers: memory.HeaderReference,
    Requantise: sfu.RequantiseReference,
    Activation: sfu.ActivationReference,
    ActivationPair: sfu.ActivationPairReference,
    Rotary: sfu.RotaryReference,
    ArgMax: sfu.ArgMaxReference,
    GatedProduct: sfu.GatedProductReference,
    RowMaximum: sfu.RowMaximumReference,
    Exp2Lanes: sfu.Exp2Reference,
    Reciprocal: sfu.ReciprocalReference,
    NormSums: sfu.NormSumsReference,
    InverseRoot: sfu.InverseRootReference,
    NormLanes: sfu.NormLanesReference,
}
_NAMES = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in _REFERENCES}
NOTES = ("engine.json", "design.json")
"""Files of an output that list its modules and what each was made by."""


def reference_of(unit: Unit) -> Reference | None:
    """The golden model of a unit, or None if there is none."""
    made = _REFERENCES.get(type(unit))
    return made(unit) if made else None


def find_reference(folder: Path, top: str) -> Reference | None:
    """The golden model of a module of an output, by what its manifest says it was made by.

    Parameters
    ----------
    folder : of the output, or its ``rtl``.
    top : name of the module.

    Returns
    -------
    Reference or None
        None if no manifest lists the module, its unit has no golden model, or is no longer made so.
    """
    for entry in _listed(folder):
        cls = _NAMES.get(str(entry.get("unit")))
        if entry.get("name") != top or cls is None:
            continue
        try:
            unit = cls(**entry["arguments"])
        except (TypeError, ValueError, KeyError):
            return None
        _not_elaborated(unit)
        return reference_of(unit) if unit.module_name == top else None
    return None


def _not_elaborated(unit: Unit) -> None:
    """Tell Amaranth that a unit and its parts are only asked for their layouts."""
    setattr(unit, "_MustUse__used", True)  # noqa: B010 (a mangled name)
    for part in set(unit.parts()):
        _not_elaborated(part)


def _listed(folder: Path) -> Sequence[dict[str, Any]]:
    """Modules as the manifest of an output lists them."""
    for path in (where / note for where in (folder, folder.parent) for note in NOTES):
        try:
            modules = json.loads(path.read_text(encoding="utf-8")).get("modules")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(modules, list):
            return [entry for entry in modules if isinstance(entry, dict)]
    return []
