# SPDX-License-Identifier: Apache-2.0
"""Mutants: small mistakes put into a design, all in one netlist, of which an input selects one.

A mutant changes a cell of the netlist that yosys made of the source, in the module and so in all its
instances; where the source says it, the mutant is shown as the line of source that it stands for.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sim.verify.source import Place, diff, find, places, rewritten, text_of
from sim.verify.subject import Subject
from sim.verify.tools import run_worker

__all__ = ["KINDS", "Mutant", "choose_mutants", "write_mutants"]

Kind = Literal[
    "operator",
    "constant",
    "condition",
    "stuck-at",
    "off-by-one",
    "missing-reset",
    "swapped-operand",
]
KINDS: tuple[Kind, ...] = (
    "operator", "constant", "condition", "stuck-at", "off-by-one", "missing-reset", "swapped-operand",
)  # fmt: skip

_OPERATORS = {
    "$add": ("$sub", "+", "-"), "$sub": ("$add", "-", "+"), "$mul": ("$add", "*", "+"),
    "$and": ("$or", "&", "|"), "$or": ("$and", "|", "&"), "$xor": ("$xnor", "^", "~^"),
    "$xnor": ("$xor", "~^", "^"), "$logic_and": ("$logic_or", "&&", "||"),
    "$logic_or": ("$logic_and", "||", "&&"), "$eq": ("$ne", "==", "!="), "$ne": ("$eq", "!=", "=="),
    "$lt": ("$ge", "<", ">="), "$le": ("$gt", "<=", ">"), "$gt": ("$le", ">", "<="),
    "$ge": ("$lt", ">=", "<"), "$shl": ("$shr", "<<", ">>"), "$shr": ("$shl", ">>", "<<"),
    "$sshl": ("$sshr", "<<<", ">>>"), "$sshr": ("$shr", ">>>", ">>"),
    "$reduce_and": ("$reduce_or", "&", "|"), "$reduce_or": ("$reduce_and", "|", "&"),
    "$reduce_xor": ("$reduce_xnor", "^", "~^"), "$logic_not": ("$reduce_bool", "!", "|"),
    "$reduce_bool": ("$logic_not", "", "!"), "$not": ("$pos", "~", ""), "$neg": ("$pos", "-", ""),
}  # fmt: skip
_CLOSE = {"$lt": ("$le", "<", "<="), "$le": ("$lt", "<=", "<"), "$gt": ("$ge", ">", ">="),
          "$ge": ("$gt", ">=", ">")}  # fmt: skip
_SWAPPED = {"$sub": "-", "$lt": "<", "$le": "<=", "$gt": ">", "$ge": ">="}
_BINARY = {"$add", "$sub", "$mul", "$and", "$or", "$xor", "$eq", "$ne", "$lt", "$le", "$gt", "$ge"}


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Parameters
    ----------
    number : the value of ``hwgen_mutant`` that selects it, from 1; 0 before it is chosen.
    kind : what sort of mistake.
    module, cells : where, in yosys's names; an ``if`` over several registers is a cell for each.
    action : what is done there, for `sim.verify.worker`.
    diff : the source before and after.
    """

    number: int
    kind: Kind
    module: str
    cells: tuple[str, ...]
    action: tuple[str | int, ...]
    diff: str

    @property
    def place(self) -> str:
        """File and line."""
        found = re.match(r"@@ (.*) @@", self.diff)
        return found[1] if found else self.module


def choose_mutants(subject: Subject, count: int, seed: int, *, own: bool = False) -> list[Mutant]:
    """At most ``count`` mutants, drawn in turns from each kind; the same for the same seed.

    ``own`` : of the module itself alone, not of what it instantiates.
    """
    sites: dict[Kind, list[Mutant]] = {kind: [] for kind in KINDS}
    for site in _sites(json.loads((subject.folder / "hierarchy.json").read_text())["modules"]):
        if not own or site.module == subject.top:
            sites[site.kind].append(site)
    source = random.Random(seed)
    for found in sites.values():
        source.shuffle(found)
    chosen: list[Mutant] = []
    while len(chosen) < count and any(sites.values()):
        for kind in KINDS:
            if sites[kind] and len(chosen) < count:
                chosen.append(sites[kind].pop())
    chosen.sort(key=lambda m: (m.place, m.module, m.cells, m.action))
    return [
        Mutant(k, m.kind, m.module, m.cells, m.action, m.diff)
        for k, m in enumerate(chosen, start=1)
    ]


def write_mutants(subject: Subject, mutants: Sequence[Mutant], folder: Path) -> Path:
    """The flat netlist of the design with all mutants in it, selected by its input ``hwgen_mutant``."""
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "job": "mutate", "design": str((subject.folder / "hierarchy.il").resolve()),
        "output": "mutated.il",
        "mutants": [[m.number, m.module, m.cells, *m.action] for m in mutants],
    }  # fmt: skip
    run_worker(job, folder, name="mutate")
    return folder / "mutated.il"


def _sites(modules: dict[str, Any]) -> Iterator[Mutant]:
    for module, entry in sorted(modules.items()):
        names = _names(entry)
        together: dict[tuple[str, str, str], list[str]] = {}
        for cell, facts in sorted(entry["cells"].items()):
            if source := facts["attributes"].get("src", ""):
                key = (
                    cell
                    if facts["type"] not in ("$mux", "$pmux")
                    else str(facts["connections"]["S"])
                )
                together.setdefault((facts["type"], source, key), []).append(cell)
        for (_, source, _), cells in together.items():
            if found := places(source):
                yield from _Cell(
                    module, tuple(cells), entry["cells"][cells[0]], found, names
                ).mutants()


def _names(module: dict[str, Any]) -> dict[int | str, tuple[str, int]]:
    """Public name and bit of each net."""
    found: dict[int | str, tuple[str, int]] = {}
    for name in sorted(module["netnames"], key=lambda n: (n.count("."), len(n), n)):
        entry = module["netnames"][name]
        if not entry.get("hide_name"):
            for bit, net in enumerate(entry["bits"]):
                found.setdefault(net, (name, bit))
    return found


class _Cell:
    """A cell, and the mutants it gives; or choices that one condition makes."""

    def __init__(
        self, module: str, cells: tuple[str, ...], facts: dict[str, Any], found: list[Place],
        names: dict[int | str, tuple[str, int]],
    ) -> None:  # fmt: skip
        self.module, self.cells, self.names = module, cells, names
        self.type: str = facts["type"]
        self.ports: dict[str, list[int | str]] = facts["connections"]
        self.parameters: dict[str, str] = facts["parameters"]
        self.places = found
        self.text = text_of(found[0])

    def mutants(self) -> Iterator[Mutant]:
        if self.type in _OPERATORS:
            yield from self._operator()
        if self.type in _BINARY:
            yield from self._constants()
        if self.type in ("$mux", "$pmux"):
            yield from self._choice()
        if self.type in ("$add", "$sub", "$mul", "$mux"):
            yield from self._stuck(
                "Y", sorted({0, len(self.ports["Y"]) // 2, len(self.ports["Y"]) - 1})
            )
        if "dff" in self.type:
            yield from self._register()
        if self.type.startswith(("$memwr", "$memrd")):
            yield from self._memory()

    def _made(
        self, kind: Kind, action: Iterable[str | int], note: str, new: str | None = None,
        place: Place | None = None,
    ) -> Mutant:  # fmt: skip
        shown = diff(place or self.places[0], new, note)
        # A condition is of all the choices it makes; a value is of the first alone.
        cells = self.cells if kind == "condition" else self.cells[:1]
        return Mutant(0, kind, self.module, cells, tuple(action), shown)

    def _operator(self) -> Iterator[Mutant]:
        other, old, new = _OPERATORS[self.type]
        text = rewritten(self.text, old, new) if old else f"!({self.text})"
        yield self._made("operator", ("type", other), f"{self.type[1:]} becomes {other[1:]}", text)
        if self.type in _CLOSE:
            close, old, new = _CLOSE[self.type]
            text = rewritten(self.text, old, new)
            yield self._made("off-by-one", ("type", close), f"{old} becomes {new}", text)
        if self.type in ("$add", "$sub"):
            text = f"({self.text} + 1)" if self.text else None
            yield self._made("off-by-one", ("increment",), "one more", text)
        if self.type in _SWAPPED:
            old = _SWAPPED[self.type]
            mark = "\0"
            split = (rewritten(self.text, old, mark) or "").split(mark)
            text = f"{split[1].strip()} {old} {split[0].strip()}" if len(split) == 2 else None
            yield self._made("swapped-operand", ("swap",), "operands swapped", text)

    def _constants(self) -> Iterator[Mutant]:
        for port in ("A", "B"):
            bits = self.ports[port]
            if not all(bit in ("0", "1") for bit in bits):
                continue
            value = int("".join(map(str, reversed(bits))), 2)
            more = (value + 1) % (1 << len(bits))
            kind: Kind = (
                "off-by-one"
                if self.type in ("$eq", "$ne", "$lt", "$le", "$gt", "$ge")
                else "constant"
            )
            yield self._made(
                kind,
                ("xor", port, value ^ more),
                f"{value} becomes {more}",
                self._with(value, more),
            )
            if value > 1:
                yield self._made(
                    "constant", ("xor", port, value), f"{value} becomes 0", self._with(value, 0)
                )

    def _with(self, value: int, other: int) -> str | None:
        """The source with another number in the place of the last that has this value."""
        numbers = list(
            re.finditer(r"(?:\d+\s*)?'s?[bodhBODH][0-9a-fA-F_]+|(?<![\w'$])\d+(?![\w'])", self.text)
        )
        for found in reversed(numbers):
            if _value(found[0]) == value:
                return f"{self.text[: found.start()]}{other}{self.text[found.end() :]}"
        return None

    def _choice(self) -> Iterator[Mutant]:
        ternary = self.type == "$mux" and "?" in self.text
        condition = self.text.split("?")[0].strip() if ternary else self.text
        wide = len(self.ports["S"])

        def shown(text: str) -> str | None:
            if not self.text or wide > 1:
                return None
            return text + self.text[self.text.index("?") - 1 :] if ternary else text

        for bit in range(wide):
            mask = 1 << bit
            which = f" {bit}" if wide > 1 else ""
            if wide == 1:
                yield self._made(
                    "condition",
                    ("xor", "S", 1),
                    "the condition is negated",
                    shown(f"!({condition})"),
                )
                yield self._made(
                    "condition", ("force", "S", 1, 1), "the condition is always true", shown("1'b1")
                )
            yield self._made(
                "condition",
                ("force", "S", mask, 0),
                f"condition{which} is never true",
                shown("1'b0"),
            )
        for port in ("A", "B"):
            bits = self.ports[port]
            if bits and all(bit in ("0", "1") for bit in bits):
                yield self._made(
                    "constant", ("xor", port, 1), "the constant that is chosen differs in bit 0"
                )

    def _register(self) -> Iterator[Mutant]:
        bits = self.ports["Q"]
        yield from self._stuck("Q", range(min(len(bits), 64)))
        name = self.names.get(bits[0], ("", 0))[0]
        if "EN" in self.ports and "EN_POLARITY" in self.parameters:
            active = int(self.parameters["EN_POLARITY"], 2)
            yield self._made(
                "condition", ("force", "EN", 1, active), f"{name} changes in every cycle"
            )
            yield self._made(
                "condition",
                ("xor", "EN", 1),
                f"the condition under which {name} changes is negated",
            )
        for pin in ("SRST", "ARST"):
            if pin in self.ports and name:
                idle = 1 - int(self.parameters[f"{pin}_POLARITY"], 2)
                local = re.escape(name.split(".")[-1])
                where = find(self.places[-1], rf"\b{local}\s*<=\s*[^;]*;")
                yield self._made(
                    "missing-reset", ("force", pin, 1, idle), f"{name} is not reset",
                    "" if where else None, where,
                )  # fmt: skip

    def _stuck(self, port: str, bits: Iterable[int]) -> Iterator[Mutant]:
        for bit in bits:
            name, index = self.names.get(self.ports[port][bit], ("", 0))
            what = f"{name}[{index}]" if name else f"bit {bit} of {self.text or self.type[1:]}"
            for value in (0, 1):
                yield self._made(
                    "stuck-at",
                    ("force_output", port, 1 << bit, value << bit),
                    f"{what} is always {value}",
                )

    def _memory(self) -> Iterator[Mutant]:
        yield self._made("off-by-one", ("xor", "ADDR", 1), "the address differs in bit 0")
        if self.type.startswith("$memwr"):
            bits = len(self.ports["EN"])
            yield self._made(
                "condition", ("force", "EN", (1 << bits) - 1, (1 << bits) - 1), "always written"
            )
            yield self._made("condition", ("force", "EN", (1 << bits) - 1, 0), "never written")
            yield self._made(
                "stuck-at", ("force", "DATA", 1, 0), "bit 0 of what is written is always 0"
            )


def _value(text: str) -> int | None:
    if "'" not in text:
        return int(text)
    digits = text.split("'")[1].lstrip("sS")
    base = {"b": 2, "o": 8, "d": 10, "h": 16}[digits[0].lower()]
    try:
        return int(digits[1:].replace("_", ""), base)
    except ValueError:
        return None
