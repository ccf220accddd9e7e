# SPDX-License-Identifier: Apache-2.0
"""What is verified: a module of somebody's Verilog, its clock, its reset, and its signals."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from designs import catalogue
from designs.errors import DesignError
from sim.verify.evaluate import AFTER_RESET
from sim.verify.tools import ToolFailure, run_worker

__all__ = ["Memory", "Port", "Reset", "Subject", "SubjectSignal", "elaborate"]

_NAME = re.compile(r"[A-Za-z_][\w$]*(?:(?:\[\d+\])*\.[A-Za-z_][\w$]*)*")
_RESET = re.compile(
    r"(?:^|_)(?:[a-z]{0,4}_?)?re?se?t(?:_?n|_?ni|_?i|_?b|_?l|_?p)?(?:_i|_in)?$|(?:^|_)a?clrn?$",
    re.I,
)
_LOW = re.compile(r"(?:n|_ni|_b|_l|_n_i)$|^n_?r", re.I)
MAX_WIDTH = 512
"""Wider signals are not named in properties."""


@dataclass(frozen=True)
class Port:
    """A port; ``direction`` is ``input`` or ``output``."""

    name: str
    width: int
    direction: str


@dataclass(frozen=True)
class SubjectSignal:
    """A signal inside: its hierarchical name, its bits' nets, and whether registers drive all of them."""

    name: str
    width: int
    register: bool
    nets: tuple[int | str, ...]


@dataclass(frozen=True)
class Memory:
    """An array of words."""

    name: str
    width: int
    size: int


@dataclass(frozen=True)
class Reset:
    """A reset input and the level at which it resets."""

    name: str
    level: int
    asynchronous: bool

    def job(self) -> dict[str, Any]:
        """For `sim.verify.worker`."""
        return {"name": self.name, "level": self.level}


@dataclass(frozen=True)
class Subject:
    """A module that can be simulated and proven things of.

    Parameters
    ----------
    files : its Verilog.
    folder : where ``flat.il`` and ``hierarchy.json`` are.
    top : name of the module.
    ports : in their order.
    clock, edge : the clock input, and the edge at which registers take their values (1 rising).
    reset : its reset input, or None.
    signals : by name; aliases of a signal named before are left out.
    memories : arrays inside.
    cells : how large it is, in cells of yosys before mapping.
    parameters, include, define : with which it was read.
    """

    files: tuple[Path, ...]
    folder: Path
    top: str
    ports: tuple[Port, ...]
    clock: str
    edge: int
    reset: Reset | None
    signals: Mapping[str, SubjectSignal]
    memories: tuple[Memory, ...]
    cells: int
    parameters: tuple[tuple[str, int], ...] = ()
    include: tuple[Path, ...] = ()
    define: tuple[str, ...] = ()

    @cached_property
    def widths(self) -> dict[str, int]:
        """Width by name of what a property may name."""
        return {name: s.width for name, s in self.signals.items()} | {AFTER_RESET: 1}

    @cached_property
    def asynchronous(self) -> bool:
        """Whether a register changes without the clock."""
        module = _top_of(self.folder / "flat.json")[self.top]
        return any(
            kind in cell["type"] for cell in module["cells"].values()
            for kind in ("$adff", "$aldff", "$dffsr", "$dlatch", "$adlatch", "$sr")
        )  # fmt: skip

    @property
    def memory_bits(self) -> int:
        return sum(m.width * m.size for m in self.memories)

    @property
    def inputs(self) -> list[Port]:
        """What a stimulus drives: inputs without the clock and the reset."""
        special = {self.clock, self.reset.name if self.reset else ""}
        return [p for p in self.ports if p.direction == "input" and p.name not in special]

    @property
    def outputs(self) -> list[Port]:
        return [p for p in self.ports if p.direction == "output"]


def elaborate(
    files: Sequence[Path],
    folder: Path,
    *,
    top: str | None = None,
    parameters: Mapping[str, int] | None = None,
    include: Sequence[Path] = (),
    define: Sequence[str] = (),
    clock: str | None = None,
    reset: str | None = None,
) -> Subject:
    """Read Verilog and find out what it is.

    Parameters
    ----------
    folder : where the netlists go.
    top : the module; without it, the one that no other instantiates.
    parameters : values of the top's parameters.
    clock, reset : instead of what is found; ``reset`` may begin with ``!`` (active low), or be ``none``.

    Raises
    ------
    DesignError
        If the files do not parse (with file and line), there is no such module, or it has no clock or
        more than one.
    """
    for path in files:
        if not path.is_file():
            raise DesignError(f"{path}: there is no such file")
        _scan(path)
    values = sorted((parameters or {}).items())
    job = {
        "job": "elaborate", "files": [str(p.resolve()) for p in files], "top": top, "sv": False,
        "include": [str(p.resolve()) for p in include], "define": list(define),
        "parameters": [[name, int(value)] for name, value in values],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run_worker(job, folder, name="elaborate")
    except ToolFailure as first:
        if "syntax error" not in first.reason:
            raise DesignError(_place(first.reason)) from None
        try:
            run_worker(job | {"sv": True}, folder, name="elaborate")
        except ToolFailure:
            raise DesignError(_place(first.reason)) from None
    known = json.loads((folder / "modules.json").read_text())
    if top is not None and top not in known:
        raise DesignError(catalogue.unknown("module", top, known))
    found = _subject(files, folder, clock, reset)
    return replace(
        found,
        parameters=tuple(values),
        include=tuple(p.resolve() for p in include),
        define=tuple(define),
    )


_SCAN = re.compile(r"\$(?:readmem[hb]|fopen|system|c\b)|`include\s+\"(?:/|[^\"]*\.\.)")


def _scan(path: Path) -> None:
    """Refuse what would read other files or run something."""
    text = path.read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    found = _SCAN.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise DesignError(
            f"{path}:{line}: {found[0]} reaches outside the design; hwgen verify refuses it"
        )


def _place(reason: str) -> str:
    """yosys's words, with the file and the line first."""
    reason = reason.replace("\n", " ")
    found = re.match(r"(?P<file>\S+?):(?P<line>\d+): (?:ERROR: )?(?P<what>.*)", reason)
    if found:
        return f"{found['file']}:{found['line']}: {found['what'].strip()}"
    return f"yosys cannot read it: {reason}"


def _subject(
    files: Sequence[Path], folder: Path,
    clock: str | None, reset: str | None,
) -> Subject:  # fmt: skip
    module = _top_of(folder / "flat.json")
    name = next(iter(module))
    flat = module[name]
    boxes = sorted({c["type"] for c in flat["cells"].values() if c["type"][0] != "$"})
    if boxes:
        raise DesignError(f"{name}: there is no module {boxes[0]}; give its file too")
    ports = []
    for port, entry in flat["ports"].items():
        if entry["direction"] == "inout" or not _NAME.fullmatch(port):
            raise DesignError(f"{name}: port {port} is {entry['direction']}; only plain ports work")
        ports.append(Port(port, len(entry["bits"]), entry["direction"]))
    inputs = {
        entry["bits"][0]: port
        for port, entry in flat["ports"].items()
        if entry["direction"] == "input" and len(entry["bits"]) == 1
    }
    found_clock, edge = _clock(name, flat, inputs, clock)
    found_reset = _reset(name, _top_of(folder / "resets.json")[name], inputs, found_clock, reset)
    return Subject(
        tuple(files), folder, name, tuple(ports), found_clock, edge, found_reset,
        {s.name: s for s in _signals(flat)}, tuple(_memories(flat)), len(flat["cells"]),
    )  # fmt: skip


def _top_of(path: Path) -> dict[str, Any]:
    modules = json.loads(path.read_text())["modules"]
    name = next(n for n, m in modules.items() if int(m["attributes"].get("top", "0"), 2))
    return {name: modules[name]}


def _clock(
    top: str, flat: dict[str, Any], inputs: Mapping[Any, str], wanted: str | None
) -> tuple[str, int]:
    found: Counter[tuple[str, int]] = Counter()
    for cell in flat["cells"].values():
        for pin, edge in _clock_pins(cell):
            net = cell["connections"][pin][0]
            if net not in inputs:
                raise DesignError(f"{top}: a clock is made inside the module; it must be an input")
            found[inputs[net], edge] += 1
    names = sorted({name for name, _ in found})
    if not found:
        raise DesignError(
            f"{top} has no clock: nothing in it is a register, there is nothing to verify over time"
        )
    if wanted is not None and wanted not in names:
        raise DesignError(f"{wanted} is no clock of {top}; its clock is {', '.join(names)}")
    if len(names) > 1:
        raise DesignError(
            f"{top} has {len(names)} clocks, {', '.join(names)}; hwgen verify works with one"
        )
    if len(found) > 1:
        raise DesignError(f"{top} uses both edges of {names[0]}; hwgen verify works with one")
    return next(iter(found))


def _clock_pins(cell: dict[str, Any]) -> Iterator[tuple[str, int]]:
    kind, parameters = cell["type"], cell["parameters"]
    register = "dff" in kind and "CLK" in cell["connections"]
    memory = kind in ("$memwr", "$memwr_v2", "$memrd", "$memrd_v2")
    if register or (memory and int(parameters["CLK_ENABLE"], 2)):
        yield "CLK", int(parameters["CLK_POLARITY"], 2)


def _reset(
    top: str, flat: dict[str, Any], inputs: Mapping[Any, str], clock: str, wanted: str | None
) -> Reset | None:
    """The input that resets most bits, or one whose name says so."""
    if wanted == "none":
        return None
    given = wanted.removeprefix("!") if wanted else None
    inverted = {
        cell["connections"]["Y"][0]: cell["connections"]["A"][0]
        for cell in flat["cells"].values()
        if cell["type"] in ("$not", "$logic_not") and len(cell["connections"]["A"]) == 1
    }
    votes: Counter[Reset] = Counter()
    for cell in flat["cells"].values():
        for pin in ("ARST", "SRST"):
            if pin not in cell["connections"] or "dff" not in cell["type"]:
                continue
            net, level = cell["connections"][pin][0], int(cell["parameters"][f"{pin}_POLARITY"], 2)
            if net not in inputs and inverted.get(net) in inputs:
                net, level = inverted[net], 1 - level
            name = inputs.get(net)
            if name is not None and (pin == "ARST" or _RESET.search(name) or name == given):
                votes[Reset(name, level, pin == "ARST")] += len(cell["connections"]["Q"])
    if given is not None:
        if given not in inputs.values():
            raise DesignError(catalogue.unknown("input", given, sorted(inputs.values())))
        kind = any(r.name == given and r.asynchronous for r in votes)
        return Reset(given, int(not (wanted or "").startswith("!")), kind)
    if votes:
        return max(votes, key=lambda r: (votes[r], r.name, r.level))
    named = [n for n in sorted(inputs.values()) if _RESET.search(n) and n != clock]
    return Reset(named[0], int(_LOW.search(named[0]) is None), False) if named else None


def _signals(flat: dict[str, Any]) -> Iterator[SubjectSignal]:
    registers = {
        net
        for cell in flat["cells"].values()
        if "dff" in cell["type"]
        for net in cell["connections"]["Q"]
    }
    seen: set[tuple[int | str, ...]] = set()
    names = sorted(
        flat["netnames"], key=lambda n: (n not in flat["ports"], n.count("."), len(n), n)
    )
    for name in names:
        entry = flat["netnames"][name]
        nets = tuple(entry["bits"])
        if entry.get("hide_name") or not _NAME.fullmatch(name) or len(nets) > MAX_WIDTH:
            continue
        constant = all(isinstance(net, str) for net in nets)
        if name not in flat["ports"] and (nets in seen or constant):
            continue
        seen.add(nets)
        yield SubjectSignal(name, len(nets), all(net in registers for net in nets), nets)


def _memories(flat: dict[str, Any]) -> Iterator[Memory]:
    for name, entry in sorted(flat.get("memories", {}).items()):
        yield Memory(name, entry["width"], entry["size"])
