"""Jobs for yosys in a process of their own: ``python worker.py job.json``; no import of hwgen's.

yosys prints as it likes, and ends its process on an error. A job is a JSON object whose ``job`` names one
of the functions at the end; paths in it are relative to the folder that it runs in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pyosys import libyosys as ys  # pyright: ignore[reportMissingImports]


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
        includes = "".join(f' -I "{folder}"' for folder in job["include"])
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
    y.run("write_rtlil hierarchy.il", "write_json hierarchy.json")
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


_START = """module hwgen_start(input clk, input again, output active);
  reg begun = 1'b0;
  always @(EDGE clk) begun <= 1'b1;
  assign active = ~begun | again;
endmodule
"""
"""Reset in the first cycle, and again when the environment wishes."""


def _add_checker(y: Yosys, job: dict[str, Any]) -> None:
    edge = "posedge" if job["edge"] else "negedge"
    Path("start.v").write_text(_START.replace("EDGE", edge))
    y.run(f"read_verilog {job['checker']} start.v", "proc hwgen_checker hwgen_start")
    _attach(y, job)
    y.run("flatten", "opt_clean")


def _logic(y: Yosys, stem: str, initial: str, save: bool) -> None:
    """Write a flat clocked design as ``stem.aig`` and ``stem.aim``; with ``save``, ``stem.il`` to replay it."""
    y.run("memory_map -formal" if save else "memory_map", "opt_clean", "async2sync")
    y.run("setundef -undriven -anyseq")
    if save:
        y.run(f"write_rtlil {stem}.il")
    y.run(
        f"formalff -clk2ff {initial}",
        "opt_clean",
        "wreduce t:$mul",
        "opt -fast",
        "dffunmap",
        "techmap",
        "setundef -anyseq",
    )
    y.run(
        "opt_clean", "aigmap", f"write_aiger -I -zinit -no-startoffset -map {stem}.aim {stem}.aig"
    )


def formal(job: dict[str, Any]) -> None:
    """The design and its checker as an AIG that has an output for each property."""
    y = Yosys()
    y.run("read_rtlil " + job["design"])
    _add_checker(y, job)
    _logic(y, job["stem"], "-ff2anyinit", True)


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
    _logic(y, job["stem"], "-ff2anyinit", True)


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


JOBS = {"elaborate": elaborate, "formal": formal, "free": free, "replay": replay, "cxxrtl": cxxrtl}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    JOBS[job["job"]](job)


if __name__ == "__main__":
    main()
