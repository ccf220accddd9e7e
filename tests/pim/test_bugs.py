# SPDX-License-Identifier: Apache-2.0
"""Each property fails on a bug of its own: in simulation, and where it can, in a bounded proof."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from generators.verilog import emit
from hw.pim.checker import PimChecker
from hw.pim.commands import Cmd, pim_layout, request_layout
from hw.pim.config import PimConfig
from hw.pim.control import PimControl
from hw.pim.timing import PRESETS
from hw.unit import Unit, place
from sim.pim import rtl
from sim.pim.protocol import Command
from sim.verify.tools import abc
from tests.pim.jobs import attention, build, compare, small
from tests.pim.test_channel import traffic

# Property -> module, and what is replaced in it by what (regular expressions, once each).
BUGS = {
    "p1": ("timers", [(r"= &same_0;", "= 1'b1;"), (r"= &ready_0;", "= 1'b1;")]),
    "p2": ("timers", [(r"near = ", "near = 1'b0 && ")]),
    "p3_rcd": ("timers", [(r"(later\(c_rd, \d+'d)\d+\)", r"\g<1>0)")]),
    "p3_ras": ("timers", [(r"(c_pre_0 <= later\(c_pre_0, \d+'d)33\)", r"\g<1>20)")]),
    "p4_rtw": ("timers", [(r"c_rtw == \d+'d0 && wr_bus;\n", "wr_bus;\n")]),
    "p4_bus": ("timers", [(r"wire rd_bus = ", "wire rd_bus = 1'b1 || ")]),
    "p5": ("timers", [(r" && faw_0 == \d+'d0;", ";")]),
    "p6_rp": ("timers", [(r"&idle\[2\*r \+: 2\] && ", "")]),
    "p6_rfc": ("timers", [(r"(later\(c_rfc, \d+'d)259\)", r"\g<1>200)")]),
    "p7_split": ("timers", [(r" && !\(path_busy && path_buf\[0\]\);", ";")]),
    "p7_refresh": ("control", [(r"(\\\$\d+ +)= ~ active;", r"\1= 1'h1;")] * 2),
    "p7_promise": ("timers", [(r"(c_act_0 <= later\(c_act_0, \d+'d)13\)", r"\g<1>200)")]),
    "p8_mem": ("timers", [(r"assign rd_ok\[b\] = ", "assign rd_ok[b] = 1'b0 && ")]),
    "p9": ("timers", [(r"assign entry_written\[e\] = [^;]*;", "assign entry_written[e] = 1'b1;")]),
    "p10": ("device", [(r"wire act = is_act && here;", "wire act = (is_act || is_gact) && here;")]),
    "p11": ("mac", [(r"mask\[l\] \? x \* y : 16'sd0", "x * y")]),
    "p12": ("control", [(r"    _locked <= [^;]*;", "    _locked <= 1'h0;")]),
}  # fmt: skip


def seed(name: str, file: str, text: str) -> str:
    """The text with the bug of that name, if it is in this file."""
    module, edits = BUGS.get(name, ("", []))
    if f"pim_{module}_" in file:
        for old, new in edits:
            text, count = re.subn(old, new, text, count=1)
            assert count, f"{name}: {old} is not in {file}"
    return text


def config(name: str) -> PimConfig:
    return small(dual=name != "p12")


@pytest.mark.slow
def test_every_property_fails_on_its_bug(tmp_path: Path) -> None:
    configs = {name: config(name) for name in [*BUGS, "none"]}
    program = build(configs, tmp_path, seed)
    pim, mem, jobs = {}, {}, {}
    for name, c in configs.items():
        jobs[name] = job = attention(c, 13, seed=4)
        mem[name] = [(1, w) for w in job.writes] + [
            (at + 20_000, r._replace(row=r.row % 8)) for at, r in traffic(c, 5, 500)
        ]
        pim[name] = [(10_000, command, data) for command, data in job.commands]
        pim[name] += [(20_000, command, data) for command, data in job.commands * 3]
        # Steps right behind what they need.
        pim[name] += [(30_000, Command(Cmd.HEADER, est=500), 0), (30_000, Command(Cmd.PIMPREA), 0),
                      (30_000, Command(Cmd.GACT, 0, 4), 0), (30_000, Command(Cmd.GACT, 2, 4), 0),
                      (30_100, Command(Cmd.GWRITE, 0, 60), 0),
                      (30_100, Command(Cmd.COMPS_READRES, k=4, last=1), 0)]  # fmt: skip
        # A sequence that forgets to open half of its banks: the controller must refuse to compute.
        pim[name] += [(40_000, Command(Cmd.HEADER, est=400), 0), (40_000, Command(Cmd.PIMPREA), 0),
                      (40_000, Command(Cmd.GACT, 0), 0),
                      (40_000, Command(Cmd.COMPS_READRES, k=4, last=1), 0)]  # fmt: skip
    outcomes = rtl.run(program, configs, pim, mem, tmp_path, limit=60_000, strict=False)
    assert outcomes["none"].failed == []
    missing = {}
    for name in BUGS:
        failed = outcomes[name].failed
        if name == "p11":
            job = jobs[name]
            count = len(job.logit.results + job.attend.results)
            outcomes[name].results = outcomes[name].results[:count]
            with pytest.raises(AssertionError):
                compare(configs[name], job, outcomes[name])
        elif not any(label.startswith(name) for label in failed):
            missing[name] = sorted(set(failed))
    assert missing == {}


class _Controller(Unit):
    """A controller and its checker, without memory; ``never`` stays low, the search wants it so."""

    def __init__(self, c: PimConfig) -> None:
        self._c = c
        super().__init__({"pim": In(pim_layout(c)), "pim_valid": In(1), "mem": In(request_layout(c)),
                          "mem_valid": In(1), "never": Out(1)}, {})  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        control = place(m, "control", PimControl(self._c))
        checker = place(m, "checker", PimChecker(self._c))
        never = Signal()
        m.d.sync += never.eq(never & control.ca_valid)
        m.d.comb += [
            control.pim.payload.eq(self.pim), control.pim.valid.eq(self.pim_valid),
            control.mem.payload.eq(self.mem), control.mem.valid.eq(self.mem_valid),
            self.never.eq(never),
        ]  # fmt: skip
        for name in ("ca_valid", "ca", "begins", "promise", "active", "debt"):
            m.d.comb += getattr(checker, name).eq(getattr(control, name))
        return m


SHORT = replace(
    PRESETS["neupims-hbm"], name="short", rl=9, wl=6, burst=1, rcd_rd=2, rcd_wr=2, rcd_pim=2, rp=2,
    ras=3, rc=5, rrd_s=1, rrd_l=2, faw=4, ccd_s=1, ccd_l=2, wtr_s=1, wtr_l=2, wr=2, rtp=2, rfc=4,
    refi=255, comp=1, fill=2, gwrite_column=2,
)  # fmt: skip


LEFT_OUT = ("p6_debt", "p7_promise", "p8_mem", "p8_pim", "p10_open", "p10_row")
"""These need more cycles than a bounded proof has, a host that promises well, or the banks."""


def asserts(name: str, text: str) -> str:
    """The text with those assertions that belong to the bug of that name; all, if it is ``right``."""
    kept = []
    for line in text.splitlines(keepends=True):
        label = re.search(r"\b(p\d+_\w+): assert", line)
        if label and (label[1] in LEFT_OUT or (name in BUGS and not label[1].startswith(name))):
            line = re.sub(r"\bp\d+_\w+: assert \(.*\);", ";", line)
        kept.append(re.sub(r"\bp\d+_\w+: assert", "assert", line))
    return "".join(kept)


def search(name: str, folder: Path, depth: int) -> str:
    """What ABC says of a bounded search for a broken assertion of the controller."""
    c = PimConfig(banks=4, ranks=2, groups=1, rows=4, page_bytes=128, act_group=2, timing=SHORT,
                  dual=name != "p12", patience=8)  # fmt: skip
    emission = emit(_Controller(c))
    reads = []
    for file, text in emission.files.values():
        text = seed(name, file, text)
        (folder / file).write_text(asserts(name, text) if "checker" in file else text)
        reads.append(f"read_verilog -sv -formal {file}")
    (folder / "p.ys").write_text("\n".join([
        *reads, f"prep -flatten -top {emission.top}", "memory_map -formal",
        "opt_clean", "async2sync", "chformal -lower", "setundef -undriven -anyseq", "formalff -clk2ff -ff2anyinit",
        "opt -fast", "dffunmap", "techmap", "setundef -anyseq", "opt_clean", "aigmap",
        "stat", "write_aiger -zinit -map p.aim p.aig",
    ]))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script p.ys')"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    (folder / "log").write_text(done.stdout)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return abc(f"read_aiger p.aig; print_stats; bmc3 -F {depth} -T 200", folder, seconds=260, name="p")  # fmt: skip


@pytest.mark.slow
class TestBoundedProof:
    @pytest.mark.parametrize("name", ["right", "p12-right"])
    def test_right(self, name: str, tmp_path: Path) -> None:
        text = search(name, tmp_path, 18)
        assert "No output asserted in 18 frames" in text, text

    @pytest.mark.parametrize("name", ["p3_rcd", "p4_rtw", "p5", "p9"])
    def test_wrong(self, name: str, tmp_path: Path) -> None:
        text = search(name, tmp_path, 30)
        assert "was asserted in frame" in text, text
