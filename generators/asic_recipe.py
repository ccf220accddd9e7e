# SPDX-License-Identifier: Apache-2.0
"""How a design becomes cells of a library: yosys passes, ABC scripts, and adders to choose from.

No single script is best for every design: one is fast and large, another small and slow, and which
one wins depends on the design. So a design is mapped with all of them and judged by the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from generators import yosys
from generators.liberty import LOAD_PF, Liberty

__all__ = [
    "ADDERS",
    "BOX",
    "REFUSED",
    "SCRIPTS",
    "TEMPLATES",
    "Choice",
    "front",
    "is_macro",
    "library_lines",
    "mapped",
    "memory_bits",
    "techmapped",
]

_SIZE = "buffer -c -G {gain}; topo; upsize {d}; dnsize {d}; stime -p"
_SPEED = "strash; ifraig; scorr; dc2; dch -f; map -B 0.9 {d}; topo; " + _SIZE
_GIA = "strash; &get -n; &st; &dch; &nf; &put; " + _SIZE
SCRIPTS = {
    # Name -> what ABC does. {d} is "-D picoseconds", the delay that it aims at.
    # A low gain buffers for speed, but in a large design ABC then gives up half-way: see REFUSED.
    "speed": _SPEED.replace("{gain}", "300"),
    "speed-lean": _SPEED.replace("{gain}", "1000"),
    "sop": "strash; ifraig; scorr; dc2; strash; if -g -K 6 -C 8; strash; dch -f; "
    "map -B 0.9 {d}; topo; " + _SIZE.replace("{gain}", "300"),
    "gia": _GIA.replace("{gain}", "300"),
    "gia-lean": _GIA.replace("{gain}", "1000"),
    "ydef": "strash; &get -n; &fraig -x; &put; scorr; dc2; dretime; strash; &get -n; "
    "&nf {d}; &put; " + _SIZE.replace("{gain}", "300"),
    "area": "strash; ifraig; scorr; dc2; strash; dch -f; map -B 0.9 -a; topo; "
    + _SIZE.replace("{gain}", "300"),
}

REFUSED = "Buffering could not be completed"
"""What ABC prints after leaving a netlist half-buffered, which is no result."""

ADDERS = {
    # Name -> how yosys maps what adds and compares.
    "brent-kung": "techmap",
    "kogge-stone": "techmap -map +/choices/kogge-stone.v -map +/techmap.v",
    "han-carlson": "techmap -map +/choices/han-carlson.v -map +/techmap.v",
    "sklansky": "techmap -map +/choices/sklansky.v -map +/techmap.v",
}

_MACRO = Path(__file__).parent / "templates" / "macro.v"
_MACRO_BITS = Path(__file__).parent / "templates" / "macro_bits.v"
TEMPLATES = (_MACRO, _MACRO_BITS)
"""Verilog that is part of the recipe."""

BOX = "hwgen_box_"
"""How the ports begin that stand for the pins of what was cut out."""

_INSTANCES = "c:* t:$* %d"
"""Cells, without those of yosys; no wires, which would become outputs."""

_EVERT = (
    # First names without brackets: OpenSTA takes g[0].u.y for a part of a bus.
    f"rename -hide {_INSTANCES}",
    f"rename -enumerate -pattern {BOX}% {_INSTANCES}",
    f"expose -evert {_INSTANCES}",
)
"""Instances become ports."""

_ARITHMETIC = "t:$alu t:$lcu t:$macc t:$macc_v2 t:$mul t:$div t:$mod t:$add t:$sub"


@dataclass(frozen=True)
class Choice:
    """One way to map a design.

    Attributes
    ----------
    script : a key of `SCRIPTS`
    adder : a key of `ADDERS`
    booth : whether multiplications become Booth multipliers
    target_ps : delay that ABC aims at, in ps; 1 is as fast as it can
    """

    script: str
    adder: str
    booth: bool
    target_ps: int = 1


def front(
    files: Sequence[Path],
    boxes: Sequence[Path],
    top: str,
    library: Liberty,
    *,
    booth: bool,
    macro_bits: int | None,
) -> list[str]:
    """Passes from text to words.

    They leave ``front.il``; ``memories.json``, the memories; ``clocks``, the inputs that clock
    something; ``multipliers.count``, ``adders.count`` and ``outputs.count``. What boxes and macros give and take
    becomes ports, so that the logic before and behind them stays.
    """
    cut = [
        f'techmap -D HWGEN_MACRO_BITS={macro_bits} -map "{_MACRO}"',
        *_EVERT,
    ]
    return [
        f'read_liberty -lib -ignore_miss_func "{library.path}"',
        yosys.read_verilog(_MACRO_BITS, "-lib"),
        # An empty module among them is a mistake, not a black box.
        *(yosys.read_verilog(path, "-noblackbox") for path in files),
        *(yosys.read_verilog(path, "-lib") for path in boxes),
        f"hierarchy -check -top {top}",
        "proc",
        "flatten",
        "check -assert",  # before what has no driver is optimised away
        "opt_expr",
        "opt_clean",
        "tee -q -o multipliers.count select -count t:$mul t:$macc t:$macc_v2",
        f"synth -flatten -run coarse:fine{' -booth' if booth else ''}",
        "select t:$mem_v2",
        "write_json -selected memories.json",
        "select -clear",
        *(cut if macro_bits is not None else _EVERT if boxes else []),
        "opt -fast -full",
        "memory_map",
        "opt -undriven -fine",
        f"tee -q -o adders.count select -count {_ARITHMETIC}",
        "tee -q -o clocks select -list t:$*dff* %ci1:+[CLK] i:* %i",
        "tee -q -o outputs.count select -count o:*",
        "write_rtlil front.il",
    ]


def is_macro(parameters: Mapping[str, str], macro_bits: int | None) -> bool:
    """Whether a memory of ``memories.json`` is cut out; the rule that ``macro.v`` follows."""
    written = int(parameters["WR_PORTS"], 2) > 0
    return macro_bits is not None and written and memory_bits(parameters) >= macro_bits


def memory_bits(parameters: Mapping[str, str]) -> int:
    """Bits that a memory of ``memories.json`` holds."""
    return int(parameters["SIZE"], 2) * int(parameters["WIDTH"], 2)


def techmapped(front: Path, adder: str) -> list[str]:
    """Passes from words to gates; leaves ``gates.il``."""
    return [
        f'read_rtlil "{front}"',
        ADDERS[adder],
        "opt -full",
        "simplemap",  # opt merges into multiplexers of words
        "write_rtlil gates.il",
    ]


def mapped(gates: Path, library: Liberty, choice: Choice) -> list[str]:
    """Passes from gates to cells; leaves ``stat.json`` and ``net.v``.

    The folder holds the files of `library_lines`. The netlist is in the plain form that OpenSTA
    of 2019 reads.
    """
    avoid = "".join(f" -dont_use {name}" for name in library.avoided)
    liberty = f'-liberty "{library.path}"'
    return [
        f'read_rtlil "{gates}"',
        f"dfflibmap {liberty}{avoid}",
        "opt",
        f"abc {liberty}{avoid} -constr constraints -D {choice.target_ps} -script abc.script",
        "opt_clean -purge",
        "check -assert",
        f"tee -q -o stat.json stat -json {liberty}",
        "splitnets -ports",
        "opt_clean -purge",
        "write_verilog -noattr -noexpr -nohex -nodec net.v",
    ]


def library_lines(library: Liberty, choice: Choice) -> dict[str, str]:
    """Files that `mapped` needs: ABC's script, and what drives and loads the ports."""
    # ABC puts nothing for {D} into a script from a file.
    script = SCRIPTS[choice.script].format(d=f"-D {choice.target_ps}")
    load = LOAD_PF / library.capacitance_pf
    return {
        "abc.script": script + "\n",
        "constraints": f"set_driving_cell {library.driver}\nset_load {load:g} [all_outputs]\n",
    }
