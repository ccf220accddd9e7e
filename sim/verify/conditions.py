# SPDX-License-Identifier: Apache-2.0
"""The conditions that a design itself decides by, as expressions over its named signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.verify.subject import Subject

__all__ = ["find_conditions"]

MAX_LENGTH, MAX_DEPTH = 120, 6
_JOINED = {"$logic_and": "&&", "$logic_or": "||", "$and": "&&", "$or": "||"}
_COMPARED = {"$eq": "==", "$ne": "!=", "$lt": "<", "$le": "<=", "$gt": ">", "$ge": ">="}
_REDUCED = {"$reduce_and": "&", "$reduce_or": "|", "$reduce_bool": "|", "$reduce_xor": "^"}

Net = int | str


def find_conditions(subject: Subject, flat: Mapping[str, Any]) -> list[str]:
    """Texts of what selects in multiplexers, enables registers and writes memories; each once, sorted."""
    reader = _Reader(subject, flat)
    found: set[str] = set()
    for cell in flat["cells"].values():
        for port in ("S", "EN"):
            for net in cell["connections"].get(port, [])[:16]:
                text = reader.bit(net, 0)
                if text is not None and text not in subject.signals and len(text) <= MAX_LENGTH:
                    found.add(text)
        if cell["type"] in _COMPARED and (text := reader.cell(cell, 0)) is not None:
            found.add(text)
    return sorted(found, key=lambda text: (len(text), text))


class _Reader:
    """Reads expressions back from the netlist."""

    def __init__(self, subject: Subject, flat: Mapping[str, Any]) -> None:
        self.words = {s.nets: name for name, s in reversed(list(subject.signals.items()))}
        self.bits: dict[Net, str] = {}
        for name, signal in subject.signals.items():
            for k, net in enumerate(signal.nets):
                self.bits.setdefault(net, name if signal.width == 1 else f"{name}[{k}]")
        self.drivers = {
            cell["connections"]["Y"][0]: cell
            for cell in flat["cells"].values()
            if len(cell["connections"].get("Y", [])) == 1
        }
        self.hidden = {subject.clock, subject.reset.name if subject.reset else ""}

    def bit(self, net: Net, depth: int) -> str | None:
        """A net as an expression of one bit."""
        if isinstance(net, str):
            return net if net in "01" else None
        if (name := self.bits.get(net)) is not None:
            return None if name in self.hidden else name
        cell = self.drivers.get(net)
        return self.cell(cell, depth + 1) if cell and depth < MAX_DEPTH else None

    def word(self, nets: Sequence[Net]) -> str | None:
        """Nets as a constant or a named signal, perhaps with zeros above."""
        if all(net in ("0", "1") for net in nets):
            return str(int("".join(map(str, reversed(nets))), 2))
        whole = list(nets)
        while whole and whole[-1] == "0":
            whole.pop()
        name = self.words.get(tuple(whole))
        return name if name not in self.hidden else None

    def cell(self, cell: Mapping[str, Any], depth: int) -> str | None:
        """The one-bit output of a cell."""
        kind, ports = cell["type"], cell["connections"]
        if int(cell["parameters"].get("A_SIGNED", "0"), 2) and kind in _COMPARED:
            return None
        a = ports.get("A", [])
        one = self.bit(a[0], depth) if len(a) == 1 else self._any(a)
        if kind in ("$not", "$logic_not"):
            return f"!{one}" if one is not None and (kind == "$logic_not" or len(a) == 1) else None
        if kind in _REDUCED:
            whole = self.word(a)
            return f"({_REDUCED[kind]}{whole})" if whole else one if len(a) == 1 else None
        if kind in _JOINED:
            b = ports["B"]
            if kind in ("$and", "$or") and (len(a) > 1 or len(b) > 1):
                return None
            other = self.bit(b[0], depth) if len(b) == 1 else self._any(b)
            return (
                f"({one} {_JOINED[kind]} {other})"
                if one is not None and other is not None
                else None
            )
        if kind in _COMPARED:
            left, right = self.word(a), self.word(ports["B"])
            return f"({left} {_COMPARED[kind]} {right})" if left and right else None
        return None

    def _any(self, nets: Sequence[Net]) -> str | None:
        whole = self.word(nets)
        return f"(|{whole})" if whole else None
