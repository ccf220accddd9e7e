# SPDX-License-Identifier: Apache-2.0
"""A standard-cell library as its liberty file describes it: areas, pins, energies, flip-flops."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from designs.cache import cache_folder, digest
from designs.errors import DesignError
from generators.files import write
from generators.yosys import SynthesisError

__all__ = ["LOAD_PF", "SLEW_NS", "Cell", "FlipFlop", "Internal", "Liberty", "Pin"]

LOAD_PF = 0.010
"""Load of an output whose real load is not known."""

SLEW_NS = 0.1
"""Transition time of every input, where an energy depends on it: about that of a gate with a fan-out of 3."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Internal(_Value):
    """Energy that a transition of a pin takes inside its cell; that of the load comes on top.

    Attributes
    ----------
    related : of an output, the input that made it change; ``""`` of an input
    when : condition on the other pins, as the file writes it; ``""``: where no other one holds
    rise_fj, fall_fj : with ``SLEW_NS`` at the input and the table's smallest load, in fJ. The tables
        of some flip-flops hold the energy of the load of their other output: there it is least.
    """

    related: str
    when: str
    rise_fj: float
    fall_fj: float


class Pin(_Value):
    """A pin of a cell.

    Attributes
    ----------
    direction : ``"input"``, ``"output"``, ``"inout"`` or ``"internal"``
    capacitance_ff : load that it is to what drives it, in fF
    function : of an output, as the file writes it
    internal : energies of its transitions; none if the file has none
    """

    direction: str
    capacitance_ff: float
    function: str = ""
    internal: tuple[Internal, ...] = ()


class FlipFlop(_Value):
    """What a flip-flop does, and what it adds to a path that begins and ends in one.

    Functions are as the file writes them.

    Attributes
    ----------
    clock : name of its clock pin
    falling : whether it is clocked by the falling edge
    next_state : function that it takes over at the edge
    clear, preset : functions that set the state to 0 or 1 while they are true; ``""``: never
    state : names of the state and of its complement in functions of outputs
    clk_to_q_ns : from the clock's edge, which is ideal, to its output at a load of `LOAD_PF`
    setup_ns : what its data must be earlier than the next edge, if they are as steep as its output
    """

    clock: str
    falling: bool
    next_state: str
    clear: str
    preset: str
    state: tuple[str, str]
    clk_to_q_ns: float
    setup_ns: float


class Cell(_Value):
    """A cell.

    Attributes
    ----------
    area_um2 : its area, as the file gives it: um2 in every library that we know
    pins : by name
    kind : ``"inverter"``, ``"buffer"``, ``"nand"`` (of two inputs), or ``""``
    flip_flop : if it is one that is clocked by an edge
    special : it keeps a bus, gates a clock or delays: not for synthesis
    """

    area_um2: float
    pins: dict[str, Pin]
    kind: str = ""
    flip_flop: FlipFlop | None = None
    special: bool = False


class Liberty(_Value):
    """A library.

    Attributes
    ----------
    path : the file
    name : of the library
    conditions : process, voltage and temperature
    digest : of the file
    time_ns : the file's unit of time in ns
    capacitance_pf : the file's unit of capacitance in pF
    voltage : of the supply, in V
    cells : by name
    """

    path: Path
    name: str
    conditions: str
    digest: str
    time_ns: float
    capacitance_pf: float
    voltage: float
    cells: dict[str, Cell]

    @staticmethod
    def load(path: Path) -> Liberty:
        """Read a liberty file.

        Raises
        ------
        DesignError
            If it is missing, cannot be read, is no liberty file, or lacks a flip-flop, a NAND, an
            inverter or a buffer.
        """
        path = path.resolve()
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DesignError(f"{path} cannot be read: {error.strerror}") from None
        key = digest(Path(__file__).read_bytes(), raw)
        kept = cache_folder() / "liberty" / f"{key}.json"
        try:
            library = Liberty.model_validate_json(kept.read_bytes())
            return library.model_copy(update={"path": path})
        except (OSError, ValueError):
            pass
        library = _read(path, raw, key)
        library.check()
        write(kept, library.model_dump_json())
        return library

    def check(self) -> None:
        """Raise DesignError if nothing can be mapped to these cells."""
        kinds = {cell.kind for cell in self.cells.values()}
        wants = [f"a {kind}" for kind in ("nand", "buffer") if kind not in kinds]
        wants += ["an inverter"] if "inverter" not in kinds else []
        wants += ["a flip-flop"] if not self.flip_flops else []
        if wants:
            raise DesignError(
                f"{self.path} ({self.name}) lacks {', '.join(wants)}: a library to synthesise with "
                "has flip-flops, inverters, buffers and NAND gates"
            )

    @property
    def flip_flops(self) -> dict[str, FlipFlop]:
        """The cells that are flip-flops."""
        return {n: c.flip_flop for n, c in self.cells.items() if c.flip_flop and not c.special}

    @cached_property
    def avoided(self) -> tuple[str, ...]:
        """Cells that synthesis must not use."""
        return tuple(sorted(name for name, cell in self.cells.items() if cell.special))

    @cached_property
    def driver(self) -> str:
        """The buffer that is taken to drive every input: the second smallest."""
        buffers = sorted(
            (cell.area_um2, name) for name, cell in self.cells.items() if cell.kind == "buffer"
        )
        usual = [name for _, name in buffers if re.search(r"(^|_)buf_?x?2$", name, re.IGNORECASE)]
        return usual[0] if usual else buffers[min(1, len(buffers) - 1)][1]


def _read(path: Path, raw: bytes, key: str) -> Liberty:
    try:
        from liberty.parser import parse_liberty  # takes 0.3 s to import
    except ModuleNotFoundError:
        raise SynthesisError(
            "liberty-parser is missing, which reads cell libraries: pip install 'hwgen[asic]'"
        ) from None
    try:
        group = parse_liberty(raw.decode("utf-8", errors="replace"))
    except Exception as error:  # of its parser generator, a dozen kinds
        where = re.search(r"line (\d+)", str(error))
        raise DesignError(
            f"{path} is not a liberty file" + (f": line {where[1]}" if where else "")
        ) from None
    if group.group_name != "library":
        raise DesignError(f"{path} is not a liberty file: it begins with {group.group_name!r}")
    time_ns = _time(_text(group, "time_unit", "1ns"))
    capacitance_pf = _capacitance(group)
    volt = _volt(_text(group, "voltage_unit", "1V"))
    templates = {
        _name(template): template
        for template in group.groups
        if template.group_name.endswith("_template")
    }
    cells = {
        _name(cell): _cell(cell, templates, time_ns, capacitance_pf, volt)
        for cell in group.get_groups("cell")
    }
    return Liberty(
        path=path,
        name=_name(group),
        conditions=_conditions(group),
        digest=key,
        time_ns=time_ns,
        capacitance_pf=capacitance_pf,
        voltage=_number(group, "nom_voltage") * volt,
        cells=cells,
    )


def _name(group: Any) -> str:
    return str(group.args[0]).strip('"') if group.args else ""


def _text(group: Any, key: str, default: str = "") -> str:
    values = group.get_attributes(key)
    return str(values[0]).strip('"') if values else default


def _number(group: Any, key: str, default: float = 0.0) -> float:
    try:
        return float(_text(group, key))
    except ValueError:
        return default


def _time(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)\s*([munpf]?)s", text)
    scale = {"m": 1e6, "u": 1e3, "n": 1.0, "p": 1e-3, "f": 1e-6, "": 1e9}
    return float(match[1]) * scale[match[2]] if match else 1.0


def _volt(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)\s*(m?)V", text)
    return float(match[1]) * (1e-3 if match[2] else 1.0) if match else 1.0


def _capacitance(group: Any) -> float:
    values = group.get_attributes("capacitive_load_unit")
    if not values:
        return 1.0
    number, unit = (str(part).strip('"').lower() for part in values[0])
    return float(number) * {"pf": 1.0, "ff": 1e-3, "nf": 1e3}[unit]


def _conditions(group: Any) -> str:
    named = _text(group, "default_operating_conditions")
    facts = [("process", "nom_process", "{:g}"), ("", "nom_voltage", "{:g} V")]
    facts += [("", "nom_temperature", "{:g} C")]
    found = [
        f"{name} {form.format(_number(group, key))}".strip()
        for name, key, form in facts
        if group.get_attributes(key)
    ]
    return ", ".join([*([named] if named and named != _name(group) else []), *found])


def _cell(
    cell: Any, templates: dict[str, Any], time_ns: float, capacitance_pf: float, volt: float
) -> Cell:
    pins = {}
    for pin in [*cell.get_groups("pin"), *_bus_pins(cell)]:
        for name in pin.args:
            pins[str(name).strip('"')] = Pin(
                direction=_text(pin, "direction", "internal"),
                capacitance_ff=round(_number(pin, "capacitance") * capacitance_pf * 1e3, 6),
                function=_text(pin, "function"),
                internal=tuple(
                    _internal(power, templates, time_ns, capacitance_pf, volt)
                    for power in pin.get_groups("internal_power")
                ),
            )
    name = _name(cell)
    special = (
        _text(cell, "dont_use").lower() == "true"
        or bool(cell.get_attributes("clock_gating_integrated_cell"))
        or any(pin.direction == "inout" for pin in pins.values())
        or re.search(r"dly|delay|clkdly|lpflow|probe", name, re.IGNORECASE) is not None
    )
    return Cell(
        area_um2=_number(cell, "area"),
        pins=pins,
        kind="" if special or cell.get_groups("ff") else _kind(cell, pins),
        flip_flop=_flip_flop(cell, templates, time_ns, capacitance_pf),
        special=special,
    )


_KINDS = {"10": "inverter", "01": "buffer", "1110": "nand"}
"""By truth table, the last input changing first."""


def _kind(cell: Any, pins: dict[str, Pin]) -> str:
    inputs = [name for name, pin in pins.items() if pin.direction == "input"]
    outputs = [pin for pin in cell.get_groups("pin") if _text(pin, "direction") == "output"]
    if len(outputs) != 1 or len(inputs) not in (1, 2) or not _text(outputs[0], "function"):
        return ""
    try:
        function = outputs[0].get_boolean_function("function")
        table = "".join(
            "1" if function.subs(dict(zip(inputs, values, strict=True))) == True else "0"  # noqa: E712
            for values in itertools.product((False, True), repeat=len(inputs))
        )
    except Exception:  # a function that the parser does not know is none of these
        return ""
    return _KINDS.get(table, "")


def _bus_pins(cell: Any) -> Iterable[Any]:
    for bundle in [*cell.get_groups("bundle"), *cell.get_groups("bus")]:
        yield from bundle.get_groups("pin")


def _internal(
    power: Any, templates: dict[str, Any], time_ns: float, capacitance_pf: float, volt: float
) -> Internal:
    """The unit of energy is that of capacitance times that of voltage squared."""
    unit = capacitance_pf * volt**2 * 1e3

    def energy(name: str) -> float:
        tables = power.get_groups(name) or power.get_groups("power")
        values = [_at_slew(table, templates, SLEW_NS / time_ns) for table in tables]
        return round(sum(values) * unit, 6)

    return Internal(
        related=_text(power, "related_pin"),
        when=_text(power, "when"),
        rise_fj=energy("rise_power"),
        fall_fj=energy("fall_power"),
    )


def _at_slew(table: Any, templates: dict[str, Any], slew: float) -> float:
    """A table's value at a slew of the input and the smallest load, in the file's units."""
    values, axes = np.squeeze(table.get_array("values")), _axes(table, templates)
    if values.shape != tuple(len(axis) for _, axis in axes):
        return float(values.mean())
    for variable, axis in axes:
        if "capacitance" in variable:
            values = np.take(values, 0, axis=0)
        else:
            values = np.apply_along_axis(lambda v, a=axis: np.interp(slew, a, v), 0, values)
    return float(values)


def _axes(table: Any, templates: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """Variable and points of every axis of a table, its own points before those of its template."""
    template = templates.get(_name(table))
    axes: dict[str, np.ndarray] = {}
    for number in (1, 2):
        key = f"index_{number}"
        source = table if table.get_attributes(key) else template
        if source is None or not source.get_attributes(key):
            continue
        variable = _text(template, f"variable_{number}") if template is not None else ""
        axes[variable or key] = np.ravel(source.get_array(key))
    return list(axes.items())


def _flip_flop(
    cell: Any, templates: dict[str, Any], time_ns: float, capacitance_pf: float
) -> FlipFlop | None:
    """Its times, the worst over edges; None for what is not clocked by an edge, or is scanned."""
    if not cell.get_groups("ff"):
        return None
    ff = cell.get_groups("ff")[0]
    edge = _text(ff, "clocked_on")
    load = LOAD_PF / capacitance_pf
    arcs = [arc for pin in cell.get_groups("pin") for arc in pin.get_groups("timing")]
    after = _worst(arcs, templates, "_edge", ("cell_rise", "cell_fall"), load)
    slew = _worst(arcs, templates, "_edge", ("rise_transition", "fall_transition"), load)
    before = _worst(arcs, templates, "setup_", ("rise_constraint", "fall_constraint"), slew)
    return FlipFlop(
        clock=re.sub(r"[!()\s']", "", edge),
        falling="!" in edge or "'" in edge,
        next_state=_text(ff, "next_state"),
        clear=_text(ff, "clear"),
        preset=_text(ff, "preset"),
        state=(str(ff.args[0]).strip('"'), str(ff.args[1]).strip('"')),
        clk_to_q_ns=round(after * time_ns, 6),
        setup_ns=round(before * time_ns, 6),
    )


def _worst(
    arcs: Iterable[Any], templates: dict[str, Any], kind: str, tables: tuple[str, ...], at: float
) -> float:
    """The largest value of the tables of a kind of arcs, at a load or a slew, in the file's unit."""
    found = [
        _value(table, templates, at)
        for arc in arcs
        if kind in _text(arc, "timing_type")
        for table in arc.groups
        if table.group_name in tables
    ]
    return max(found, default=0.0)


def _value(table: Any, templates: dict[str, Any], at: float) -> float:
    """A table's value at the sharpest clock, and ``at`` on its other axis, a load or a slew."""
    values = np.atleast_2d(table.get_array("values"))
    for place, (variable, axis) in enumerate(_axes(table, templates)):
        along = values.T if place == 0 else values
        if re.search("capacitance|constrained", variable) and along.shape[1] == len(axis):
            return float(np.interp(at, axis, along[0]))
    return float(values.max())
