# SPDX-License-Identifier: Apache-2.0
"""Jobs for yosys in a process of their own: ``python worker.py job.json``; no import of hwgen's.

yosys prints as it likes, and ends its process on an error. A job is a JSON object whose ``job`` names one
of the functions at the end; paths in it are relative to the folder that it runs in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pyosys import libyosys as ys  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]


class Yosys:
    """A design in yosys."""

    def __init__(self) -> None:
        self.design = ys.Design()

    def run(self, *commands: str) -> None:
        for command in commands:
            ys.run_pass(command, self.design)

    @property
    def top(self) -> Any:
        return self.design.top_module()


def _id(name: str) -> Any:
    return ys.IdString(name)


def _wires(module: Any) -> list[Any]:
    return sorted(module.wires_.values(), key=lambda wire: wire.name.str())


# ---- What a design is made of ----------------------------------------------------------------------


def _read(y: Yosys, job: dict[str, Any]) -> None:
    for name in job["files"]:
        sv = " -sv" if job["sv"] or name.endswith(".sv") else ""
        includes = "".join(f" -I {folder}" for folder in job["include"])
        defines = "".join(f" -D{name}" for name in job["define"])
        y.run(f'read_verilog -defer{sv}{includes}{defines} "{name}"')


def elaborate(job: dict[str, Any]) -> None:
    """Read the files; write the design with its hierarchy, flat, and flat with its resets found."""
    y = Yosys()
    _read(y, job)
    names = sorted(
        m.name.str().removeprefix("$abstract").removeprefix("\\")
        for m in y.design.modules_.values()
    )
    Path("modules.json").write_text(json.dumps(names))
    if job["top"] is not None and job["top"] not in names:
        return
    sets = "".join(f" -chparam {name} {value}" for name, value in job["parameters"])
    y.run(f"hierarchy -check {'-auto-top' if job['top'] is None else '-top ' + job['top']}{sets}")
    y.run("chformal -remove", "delete */t:$print", "proc", "opt_expr -keepdc", "opt_clean")
    y.run("design -push-copy", "opt_dff -nodffe", "opt_clean")
    y.run("write_rtlil hierarchy.il", "write_json hierarchy.json", "design -pop")
    y.run("flatten", "opt_clean", "write_rtlil flat.il", "write_json flat.json")
    y.run("opt_expr", "opt_dff", "write_json resets.json")


# ---- A design beside its checker -------------------------------------------------------------------


def _attach(y: Yosys, job: dict[str, Any]) -> None:
    """Add the checker and what drives its reset; the outputs are what the job watches, nothing else.

    ``reset``: None, or the input and its active level; it holds in the first cycle, and after it (``free``)
    whenever the environment wishes, or never again.
    """
    top = y.top
    clock = top.wire(_id("\\" + job["clock"]))
    if not job["keep_outputs"]:
        for wire in _wires(top):
            wire.port_output = False
    checker = top.addCell(_id("\\hwgen_check"), _id("\\hwgen_checker"))
    checker.setPort(_id("\\clk"), ys.SigSpec(clock))
    in_reset = ys.SigSpec(ys.State.S0, 1)
    reset = job["reset"]
    if reset is not None:
        wire = top.wire(_id("\\" + reset["name"]))
        if job["formal"]:
            active = ys.SigSpec(top.addWire(_id("\\hwgen_active"), 1))
            again = top.addWire(_id("\\hwgen_again"), 1)
            again.port_input = job["free_reset"]
            if not job["free_reset"]:
                top.connect(ys.SigSpec(again), ys.SigSpec(ys.State.S0, 1))
            start = top.addCell(_id("\\hwgen_starts"), _id("\\hwgen_start"))
            for port, signal in (
                ("clk", ys.SigSpec(clock)),
                ("again", ys.SigSpec(again)),
                ("active", active),
            ):
                start.setPort(_id("\\" + port), signal)
            wire.port_input = False
            value = active if reset["level"] else top.Not(_id("\\hwgen_low"), active)
            top.connect(ys.SigSpec(wire), value)
            in_reset = active
        else:
            in_reset = ys.SigSpec(wire)
            if not reset["level"]:
                in_reset = top.Not(_id("\\hwgen_low"), in_reset)
    checker.setPort(_id("\\rst"), in_reset)
    pick = top.addWire(_id("\\hwgen_pick"), 1)
    pick.port_input = True
    checker.setPort(_id("\\pick"), ys.SigSpec(pick))
    for port, name in job["ports"]:
        wire = top.wire(_id("\\" + name))
        if wire is None:
            raise SystemExit(f"ERROR: signal {name} has gone")
        checker.setPort(_id("\\" + port), ys.SigSpec(wire))
    for name, width in (("bad", job["count"]), ("hit", job["count"]), ("env", 1)):
        wire = top.addWire(_id(f"\\hwgen_{name}"), width)
        wire.port_output = name in job["outputs"]
        checker.setPort(_id(f"\\{name}"), ys.SigSpec(wire))
    top.fixup_ports()


def _add_checker(y: Yosys, job: dict[str, Any]) -> None:
    y.run(f"read_verilog {job['checker']} start.v", "proc hwgen_checker hwgen_start")
    _attach(y, job)
    y.run("flatten", "opt_clean")


def _logic(y: Yosys, stem: str, *, zero: bool = False) -> None:
    """Write a flat clocked design as ``stem.aig`` and ``stem.aim``, and ``stem.il`` to replay it.

    What no ``initial`` sets begins as anything, or as ``zero``.
    """
    y.run("memory_map -formal", "opt_clean", "async2sync")
    y.run("setundef -undriven -init -zero" if zero else "setundef -undriven -anyseq")
    for wire in _wires(
        y.top
    ):  # the map that a witness is read with counts every wire's bits from 0
        wire.start_offset, wire.upto = 0, False
    y.run(f"write_rtlil {stem}.il")
    y.run(f"formalff -clk2ff{'' if zero else ' -ff2anyinit'}", "opt_clean", "wreduce t:$mul")
    y.run("opt -fast", "dffunmap", "techmap", "setundef -anyseq", "opt_clean", "aigmap")
    y.run(f"write_aiger -I -zinit -no-startoffset -map {stem}.aim {stem}.aig")


def formal(job: dict[str, Any]) -> None:
    """The design and its checker as an AIG that has an output for each property."""
    y = Yosys()
    y.run("read_rtlil " + job["design"])
    _add_checker(y, job)
    _logic(y, job["stem"])


def free(job: dict[str, Any]) -> None:
    """The checker alone, its signals left free: what it cannot violate says nothing."""
    y = Yosys()
    y.run(f"read_verilog {job['checker']}", "hierarchy -top hwgen_checker", "proc")
    top = y.top
    for wire in _wires(top):
        if wire.name.str() == "\\rst":
            wire.port_input = False
            top.connect(ys.SigSpec(wire), ys.SigSpec(ys.State.S0, 1))
        wire.port_output = wire.name.str() == "\\" + job["output"]
    top.fixup_ports()
    _logic(y, job["stem"])


def replay(job: dict[str, Any]) -> None:
    """A counterexample as a waveform."""
    y = Yosys()
    y.run(f"read_rtlil {job['stem']}.il")
    y.run(f"sim -r {job['witness']} -map {job['stem']}.aim -clock {job['clock']} -vcd {job['vcd']}")


# ---- Simulation ------------------------------------------------------------------------------------


def cxxrtl(job: dict[str, Any]) -> None:
    """C++ of a design; the signals to watch become the outputs ``hwgen_t0``, ``hwgen_t1``, ..."""
    y = Yosys()
    y.run("read_rtlil " + job["design"])
    if job["checker"]:
        _add_checker(y, job)
    top = y.top
    if not job["keep_outputs"]:
        for wire in _wires(top):
            if not wire.name.str().startswith("\\hwgen_"):
                wire.port_output = False
    for index, name in enumerate(job["watch"]):
        source = top.wire(_id("\\" + name))
        wire = top.addWire(_id(f"\\hwgen_t{index}"), source.width)
        wire.port_output = True
        top.connect(ys.SigSpec(wire), ys.SigSpec(source))
    top.fixup_ports()
    y.run("opt_clean", f"rename {top.name.str()[1:]} hwgen_design")
    y.run(f"write_cxxrtl -noproc {job['output']}")


# ---- Mutants ---------------------------------------------------------------------------------------


class _Mutator:
    """Puts mutants into one module; ``hwgen_mutant`` selects which is there."""

    def __init__(self, module: Any, select: Any) -> None:
        self.module, self.select = module, ys.SigSpec(select)
        self.outputs: dict[tuple[str, str], tuple[Any, Any]] = {}
        self.count = 0

    def new(self) -> Any:
        self.count += 1
        return _id(f"$hwgen${self.count}")

    def apply(self, number: int, cell: Any, action: str, arguments: list[Any]) -> None:
        number_bits = ys.SigSpec(ys.Const(number, self.select.size()))
        chosen = self.module.Eq(self.new(), self.select, number_bits)
        getattr(self, f"_{action}")(cell, chosen, *arguments)

    def _type(self, cell: Any, chosen: Any, other: str) -> None:
        self._replace_output(cell, "\\Y", chosen, self._copy(cell, other))

    def _swap(self, cell: Any, chosen: Any) -> None:
        self._replace_output(cell, "\\Y", chosen, self._copy(cell, cell.type.str(), swapped=True))

    def _copy(self, cell: Any, kind: str, *, swapped: bool = False) -> Any:
        """The output of such a cell with the same inputs."""
        other = self.module.addCell(self.new(), _id(kind))
        exchange: dict[str, str] = {"A": "B", "B": "A"} if swapped else {}
        for name, value in cell.parameters.items():
            head, _, tail = str(name.str())[1:].partition("_")
            other.setParam(
                _id("\\" + exchange.get(head, head) + ("_" + tail if tail else "")), value
            )
        for port in ("A", "B"):
            if cell.hasPort(_id("\\" + port)):
                other.setPort(_id("\\" + exchange.get(port, port)), cell.getPort(_id("\\" + port)))
        result = ys.SigSpec(self.module.addWire(self.new(), cell.getPort(_id("\\Y")).size()))
        other.setPort(_id("\\Y"), result)
        return result

    def _increment(self, cell: Any, chosen: Any) -> None:
        now = self._output(cell, "\\Y")
        more = self.module.addWire(self.new(), now.size())
        self.module.addAdd(self.new(), now, ys.SigSpec(ys.Const(1, now.size())), ys.SigSpec(more))
        self._replace_output(cell, "\\Y", chosen, ys.SigSpec(more))

    def _xor(self, cell: Any, chosen: Any, port: str, mask: int) -> None:
        now = cell.getPort(_id("\\" + port))
        other = self.module.Xor(self.new(), now, _constant(mask, now.size()))
        cell.setPort(_id("\\" + port), self.module.Mux(self.new(), now, other, chosen))

    def _force(self, cell: Any, chosen: Any, port: str, mask: int, value: int) -> None:
        now = cell.getPort(_id("\\" + port))
        other = self._forced(now, mask, value)
        cell.setPort(_id("\\" + port), self.module.Mux(self.new(), now, other, chosen))

    def _force_output(self, cell: Any, chosen: Any, port: str, mask: int, value: int) -> None:
        now = self._output(cell, "\\" + port)
        self._replace_output(cell, "\\" + port, chosen, self._forced(now, mask, value))

    def _forced(self, signal: Any, mask: int, value: int) -> Any:
        size = signal.size()
        kept = self.module.And(self.new(), signal, _constant(~mask & ((1 << size) - 1), size))
        return self.module.Or(self.new(), kept, _constant(value, size))

    def _output(self, cell: Any, port: str) -> Any:
        """What the cell gives now, mutants included; what it drove is driven at the end."""
        key = (cell.name.str(), port)
        if key not in self.outputs:
            drives = cell.getPort(_id(port))
            own = ys.SigSpec(self.module.addWire(self.new(), drives.size()))
            cell.setPort(_id(port), own)
            self.outputs[key] = (drives, own)
        return self.outputs[key][1]

    def _replace_output(self, cell: Any, port: str, chosen: Any, other: Any) -> None:
        now = self._output(cell, port)
        drives = self.outputs[cell.name.str(), port][0]
        self.outputs[cell.name.str(), port] = (
            drives, self.module.Mux(self.new(), now, other, chosen)
        )  # fmt: skip

    def finish(self) -> None:
        for drives, now in self.outputs.values():
            self.module.connect(drives, now)


def _constant(value: int, width: int) -> Any:
    return ys.SigSpec(ys.Const.from_string(f"{value:0{width}b}"))


def _public(name: str) -> Any:
    """yosys's name of what its JSON calls so."""
    return _id(name if name.startswith("$") else "\\" + name)


def mutate(job: dict[str, Any]) -> None:
    """All mutants in one flat netlist."""
    y = Yosys()
    y.run("read_rtlil " + job["design"])
    modules = {module.name.str(): module for module in y.design.modules_.values()}
    selects = {}
    for name, module in modules.items():
        wire = module.addWire(_id("\\hwgen_mutant"), 16)
        wire.port_input = True
        selects[name] = wire
    mutators = {name: _Mutator(module, selects[name]) for name, module in modules.items()}
    for number, module, cells, action, *arguments in job["mutants"]:
        name = _public(module).str()
        for cell in cells:
            mutators[name].apply(number, modules[name].cell(_public(cell)), action, arguments)
    for name, module in modules.items():
        mutators[name].finish()
        for cell in list(module.cells_.values()):
            if cell.type.str() in modules:
                cell.setPort(_id("\\hwgen_mutant"), ys.SigSpec(selects[name]))
        module.fixup_ports()
    # Instances share the comparisons that select a mutant.
    y.run("check -assert", "flatten", "opt_merge t:$eq", "opt_clean")
    y.run(f"write_rtlil {job['output']}")


def miters(job: dict[str, Any]) -> None:
    """For each mutant an AIG whose output is 1 where its outputs differ from the design's."""
    y = Yosys()
    y.run("read_rtlil " + job["design"])
    y.run(
        f"rename {y.top.name.str()} hwgen_dut",
        "setattr -mod -unset top hwgen_dut",
        "design -save base",
    )
    for number in job["numbers"]:
        y.run("design -load base", f"read_verilog -DMUTANT={number} {job['miter']} start.v")
        y.run("hierarchy -top hwgen_miter", "proc", "flatten", "opt_clean", "opt_expr", "opt_clean")
        _logic(y, f"miter{number}", zero=True)


def pair(job: dict[str, Any]) -> None:
    """Two flat designs side by side, as ``miter0``."""
    y = Yosys()
    for design, name in zip(job["designs"], ("hwgen_one", "hwgen_other"), strict=True):
        y.run("read_rtlil " + design)
        y.run(f"rename {y.top.name.str()} {name}", f"setattr -mod -unset top {name}")
    y.run(f"read_verilog {job['miter']} start.v")
    y.run("hierarchy -top hwgen_miter", "proc", "flatten", "opt_clean", "opt_expr", "opt_clean")
    y.run("rename -top hwgen_miter0")
    _logic(y, "miter0", zero=True)


JOBS = {
    "elaborate": elaborate, "formal": formal, "free": free, "replay": replay, "cxxrtl": cxxrtl,
    "mutate": mutate, "miters": miters, "pair": pair,
}  # fmt: skip


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    JOBS[job["job"]](job)


if __name__ == "__main__":
    main()
