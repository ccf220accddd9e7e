# SPDX-License-Identifier: Apache-2.0
"""Which mutants cannot be told from the design, by proof; and for the others, inputs that tell them.

The two stand side by side from an all-zero power-up with a reset in the first cycle (and again whenever
the environment likes), with the same inputs; streams keep to their protocol: what waits does not change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sim.verify.checker import start_module
from sim.verify.formal import Effort
from sim.verify.stimulus import Stream
from sim.verify.subject import Subject
from sim.verify.tools import ToolFailure, abc, run_worker
from sim.verify.waves import Wave, read_vcd

__all__ = ["Difference", "compare", "compare_designs", "directed", "miter"]

_SELECTED = ("16'd0", "`MUTANT")
_STEP = re.compile(r"^STEP (\d+)\s*$", re.M)


@dataclass(frozen=True)
class Difference:
    """What is known of a mutant.

    Parameters
    ----------
    verdict : ``equivalent`` and ``different`` are proven.
    wave : inputs and outputs up to the first cycle in which an output differs.
    """

    mutant: int
    verdict: Literal["equivalent", "different", "unknown"]
    wave: Wave | None = None


def compare(
    subject: Subject, mutated: Path, numbers: Sequence[int], streams: Sequence[Stream], folder: Path,
    effort: Effort,
) -> list[Difference]:  # fmt: skip
    """Compare mutants with the design.

    Parameters
    ----------
    mutated : the netlist with all mutants.
    numbers : which to compare.
    effort : its ``seconds`` are for all of them together.
    """
    if not numbers:
        return []
    if subject.memory_bits > effort.memory_bits:
        raise ToolFailure("proof", f"{subject.memory_bits:,} bits of memory are too many")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "miter.v").write_text(miter(subject, streams))
    (folder / "start.v").write_text(start_module(subject.edge))
    job = {
        "job": "miters",
        "design": str(mutated.resolve()),
        "miter": "miter.v",
        "numbers": list(numbers),
    }
    run_worker(job, folder, name="miters")
    share = max(1.0, effort.seconds / len(numbers))
    script = "; ".join(_script(n, effort.depth, share) for n in numbers)
    text = abc(script, folder, seconds=2 * effort.seconds + 20, name="miters_abc")
    parts = _STEP.split(text)
    said = {int(n): words for n, words in zip(parts[1::2], parts[2::2], strict=True)}
    return [_difference(n, said.get(n, ""), folder, subject) for n in numbers]


def directed(subject: Subject, wave: Wave) -> list[dict[str, int]]:
    """The inputs of a difference as a directed stimulus, reset included."""
    rows = []
    for t in range(wave.cycles):
        row = {p.name: wave.values[p.name][t] for p in subject.inputs}
        if subject.reset:
            active = wave.values["hwgen_active"][t]
            row[subject.reset.name] = active if subject.reset.level else 1 - active
        rows.append(row)
    return rows


def _difference(number: int, said: str, folder: Path, subject: Subject) -> Difference:
    if re.search(r"Proved output\s+0", said):
        return Difference(number, "equivalent")
    witness = folder / f"miter{number}.aiw"
    if not re.search(r"asserted in frame", said) or not witness.exists():
        return Difference(number, "unknown")
    job = {"job": "replay", "stem": f"miter{number}", "witness": witness.name,
           "vcd": f"miter{number}.vcd", "clock": subject.clock}  # fmt: skip
    run_worker(job, folder, name="replay")
    wave = read_vcd(folder / f"miter{number}.vcd")
    bad = wave.values.get("hwgen_bad", ())
    depth = next((t + 1 for t, bit in enumerate(bad) if bit), None)
    return (
        Difference(number, "different", wave.first(depth))
        if depth
        else Difference(number, "unknown")
    )


def compare_designs(
    one: Subject, other: Subject, streams: Sequence[Stream], folder: Path, effort: Effort
) -> Difference:
    """Compare two designs with the same ports; the number of the difference says nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "miter.v").write_text(miter(one, streams, ("hwgen_one", "hwgen_other")))
    (folder / "start.v").write_text(start_module(one.edge))
    designs = [str((s.folder / "flat.il").resolve()) for s in (one, other)]
    run_worker({"job": "pair", "designs": designs, "miter": "miter.v"}, folder, name="pair")
    text = abc(
        _script(0, effort.depth, effort.seconds),
        folder,
        seconds=2 * effort.seconds + 20,
        name="pair_abc",
    )
    return _difference(0, text, folder, one)


def _script(number: int, depth: int, seconds: float) -> str:
    """What ABC does with a miter: look for a difference, then prove that there is none."""
    stem = f"miter{number}"
    return (
        f"echo STEP {number}; read_aiger {stem}.aig; bmc3 -F {depth} -T {seconds / 2:.0f}; "
        f"write_cex -a -t {stem}.aiw; scorr; pdr -v -a -T {seconds:.0f}"
    )


def miter(
    subject: Subject, streams: Sequence[Stream], modules: tuple[str, str] | None = None
) -> str:
    """Verilog of two designs side by side: the design and its mutant ``MUTANT``, or two modules."""
    edge = "posedge" if subject.edge else "negedge"
    clock, reset = subject.clock, subject.reset
    lines = [f"module hwgen_miter(input {clock}, input hwgen_again, output hwgen_bad"]
    lines += [f"  , input [{p.width - 1}:0] {p.name}" for p in subject.inputs]
    lines.append(");")
    pins = [f".{clock}({clock})", *(f".{p.name}({p.name})" for p in subject.inputs)]
    active = "1'b0"
    if reset:
        active = "hwgen_active"
        lines.append("  wire hwgen_active;")
        lines.append(f"  hwgen_start hwgen_starts({clock}, hwgen_again, hwgen_active);")
        pins.append(f".{reset.name}({'' if reset.level else '~'}hwgen_active)")
    for k, side in enumerate("gm"):
        for p in subject.outputs:
            lines.append(f"  wire [{p.width - 1}:0] {side}_{p.name};")
        outs = [f".{p.name}({side}_{p.name})" for p in subject.outputs]
        module = modules[k] if modules else "hwgen_dut"
        select = [] if modules else [f".hwgen_mutant({_SELECTED[k]})"]
        lines.append(f"  {module} hwgen_{side}({', '.join([*pins, *outs, *select])});")
    broken = ["1'b0"]
    for k, stream in enumerate(s for s in streams if s.into):
        lines += _waits(k, stream, subject, edge, active)
        broken.append(f"hwgen_broken{k}")
    differs = " | ".join(f"(g_{p.name} != m_{p.name})" for p in subject.outputs) or "1'b0"
    lines += [
        "  reg hwgen_held = 1'b1;",
        f"  wire hwgen_env = hwgen_held & ~({' | '.join(broken)});",
        f"  always @({edge} {clock}) hwgen_held <= hwgen_env;",
        f"  assign hwgen_bad = hwgen_env & ({differs});",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


def _waits(k: int, stream: Stream, subject: Subject, edge: str, active: str) -> list[str]:
    """The rule that what is offered on a stream stays until it is taken."""
    names = [stream.valid, *stream.payload]
    width = sum(p.width for p in subject.ports if p.name in names)
    return [
        f"  reg hwgen_waits{k} = 1'b0;",
        f"  reg [{width - 1}:0] hwgen_was{k};",
        f"  wire [{width - 1}:0] hwgen_is{k} = {{{', '.join(names)}}};",
        f"  always @({edge} {subject.clock}) begin",
        f"    hwgen_waits{k} <= {stream.valid} & ~g_{stream.ready} & ~{active};",
        f"    hwgen_was{k} <= hwgen_is{k};",
        "  end",
        f"  wire hwgen_broken{k} = hwgen_waits{k} & (hwgen_was{k} != hwgen_is{k});",
    ]
