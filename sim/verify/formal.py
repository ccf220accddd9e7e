# SPDX-License-Identifier: Apache-2.0
"""Proofs: each property of a design is proven, held to a depth, falsified with a counterexample, or vacuous.

yosys writes the design and its checker as an AIG with an output for each property; ABC decides them
together by IC3 (``pdr``), then by k-induction (``ind``) and bounded search (``bmc3``) what that leaves open.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sim.verify.checker import Checker, start_module, write_checker
from sim.verify.evaluate import AFTER_RESET, judge, random_trace
from sim.verify.expression import Signal, Slice, nodes
from sim.verify.properties import Monitor, Property
from sim.verify.subject import Subject
from sim.verify.tools import ToolFailure, abc, run_worker
from sim.verify.waves import Wave, read_vcd

__all__ = [
    "Effort",
    "Ruling",
    "Verdict",
    "prove",
    "proven_bit_by_bit",
    "reachable",
    "redundant",
    "tautologies",
]

Verdict = Literal["proven", "bounded", "falsified", "vacuous", "unknown"]

_ASSERTED = re.compile(r"Output\s+(\d+) was asserted in frame\s+(\d+)")
_PROVED = re.compile(r"Proved output\s+(\d+)")
_FRAME = re.compile(r"^\s*(\d+) \+ :", re.M)
RANDOM_CYCLES = 400
LEAST_DEPTH = 10
"""A search of fewer cycles than this is no bounded proof."""


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Parameters
    ----------
    seconds : for each engine, over all properties together.
    depth : cycles of a bounded proof.
    free_reset : whether the environment may reset again after the first cycle; otherwise it does not.
    memory_bits : a design with larger memories is not proven anything of.
    """

    seconds: float = 30
    depth: int = 24
    free_reset: bool = False
    memory_bits: int = 16384


@dataclass(frozen=True)
class Ruling:
    """What became of a property.

    Parameters
    ----------
    verdict : ``unknown`` if no engine got to ``LEAST_DEPTH`` in its time.
    engine : which decided.
    depth : cycles that were searched (bounded), or of the counterexample.
    wave : the counterexample.
    """

    verdict: Verdict
    engine: str = ""
    depth: int = 0
    wave: Wave | None = None


def prove(
    subject: Subject, properties: Sequence[Property], folder: Path, effort: Effort,
    *, waves: int = 1000, name: str = "proof",
) -> list[Ruling | None]:  # fmt: skip
    """Rule on each property of kind ``assert``; None for the others, which are assumed or covered.

    First a bounded search of all (it finds the shortest counterexamples), then IC3 of all with a second
    for each, and of the order of queues bit by bit; then, with what is proven as assumptions, k-induction of
    each that is left and IC3 again.

    ``waves`` : at most so many counterexamples are turned into waveforms.

    Raises
    ------
    ToolFailure
        If yosys or ABC cannot work with the design.
    """
    _build(subject, properties, folder, effort, name, "bad")
    open_ = {k for k, item in enumerate(properties) if item.kind == "assert"}
    found: dict[int, Ruling] = {}
    text = _abc(
        f"bmc3 -v -a -F {effort.depth} -T {effort.seconds / 3:.0f}", folder, effort, name, "bmc"
    )
    found |= {
        k: Ruling("falsified", "bmc3", at + 1) for k, at in _asserted(text).items() if k in open_
    }
    reached = max((int(n) for n in _FRAME.findall(text)), default=-1) + 1
    if open_ - set(found):
        text = _abc(f"pdr -v -a -H 1000 -T {effort.seconds:.0f}", folder, effort, name, "pdr")
        found |= {k: Ruling("proven", "pdr") for k in _proved(text) & open_}
        found |= {
            k: Ruling("falsified", "pdr", at + 1) for k, at in _asserted(text).items()
            if k in open_ and k not in found
        }  # fmt: skip
    for k in sorted(open_ - set(found)):
        if proven_bit_by_bit(subject, properties, k, folder, effort, f"{name}_bits{k}"):
            found[k] = Ruling("proven", "pdr, bit by bit")
    if open_ - set(found):
        found |= _with_lemmas(subject, properties, folder, effort, name, found, open_)
    for k in open_ - set(found):
        found[k] = Ruling("bounded" if reached >= LEAST_DEPTH else "unknown", "bmc3", reached)
    shown = [k for k in sorted(found) if found[k].verdict == "falsified"][:waves]
    for k in shown:
        found[k] = _with_wave(found[k], k, folder, effort, name, subject)
    return [found.get(k) for k in range(len(properties))]


def _abc(command: str, folder: Path, effort: Effort, name: str, step: str) -> str:
    """What an engine prints about ``name.aig``."""
    return abc(
        f"read_aiger {name}.aig; {command}",
        folder, seconds=effort.seconds * 1.5 + 10, name=f"{name}_{step}",
    )  # fmt: skip


def proven_bit_by_bit(
    subject: Subject, properties: Sequence[Property], index: int, folder: Path, effort: Effort,
    name: str,
) -> bool:  # fmt: skip
    """Whether what leaves a queue is what came, proven for each bit of an element by itself.

    The bits follow the same symbolic element, so that together they say what the monitor says; and a proof
    of one has only one bit of the queue's memory in it.
    """
    body = properties[index].body
    if not isinstance(body, Monitor) or body.rule != "ordered":
        return False
    push, enters, pop, leaves = body.arguments
    bits = [
        replace(properties[index], body=replace(body, arguments=(
            push, Slice(enters, bit, bit), pop, Slice(leaves, bit, bit)
        )))
        for bit in range(enters.width)
    ]  # fmt: skip
    assumed = [item for item in properties if item.kind == "assume"]
    _build(subject, [*bits, *assumed], folder, effort, name, "bad")
    left = effort.seconds
    for bit in range(len(bits)):
        began = time.monotonic()
        script = f"cone -O {bit}; scorr; pdr -T {max(1.0, left):.0f}"
        if left <= 0 or "Property proved" not in _abc(script, folder, effort, name, f"pdr{bit}"):
            return False
        left -= time.monotonic() - began
    return True


def _with_lemmas(
    subject: Subject, properties: Sequence[Property], folder: Path, effort: Effort, name: str,
    found: Mapping[int, Ruling], open_: set[int],
) -> dict[int, Ruling]:  # fmt: skip
    """Rulings on those left open, with what is proven already (and meanwhile) as assumptions."""
    known = dict(found)
    while left := sorted(open_ - set(known)):
        lemmas = [
            replace(item, kind="assume") if k in known and known[k].verdict == "proven" else item
            for k, item in enumerate(properties)
        ]
        helped = f"{name}_lemma"
        _build(subject, lemmas, folder, effort, helped, "bad")
        share = max(1.0, effort.seconds / 2 / len(left))
        script = "; ".join(
            f"echo STEP {k}; read_aiger {helped}.aig; cone -O {k}; ind -F {effort.depth - 1} -T {share:.0f}"
            for k in left
        )
        text = abc(script, folder, seconds=effort.seconds + 10, name=f"{helped}_ind")
        parts = re.split(r"^STEP (\d+)\s*$", text, flags=re.M)
        new = {
            int(k) for k, said in zip(parts[1::2], parts[2::2], strict=True)
            if "Networks are equivalent" in said
        }  # fmt: skip
        known |= {k: Ruling("proven", "k-induction") for k in new}
        if new:
            continue
        text = _abc(f"pdr -v -s -f -a -T {effort.seconds:.0f}", folder, effort, helped, "pdr")
        new = _proved(text) & set(left)
        known |= {k: Ruling("proven", "pdr") for k in new}
        known |= {
            k: Ruling("falsified", "pdr", at + 1) for k, at in _asserted(text).items() if k in left
        }
        break
    return {k: ruling for k, ruling in known.items() if k not in found}


def _build(
    subject: Subject, properties: Sequence[Property], folder: Path, effort: Effort, name: str,
    output: str,
) -> None:  # fmt: skip
    if subject.memory_bits > effort.memory_bits:
        raise ToolFailure(
            "proof",
            f"{subject.memory_bits:,} bits of memory are more than {effort.memory_bits:,}",
        )
    checker = write_checker(properties, subject.edge)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.v").write_text(checker.text)
    (folder / "start.v").write_text(start_module(subject.edge))
    run_worker(
        attachment(subject, checker) | {
            "job": "formal", "stem": name, "checker": f"{name}.v", "formal": True,
            "free_reset": effort.free_reset, "keep_outputs": False, "outputs": [output],
        },
        folder, name=f"{name}_{output}",
    )  # fmt: skip


def attachment(subject: Subject, checker: Checker) -> dict[str, object]:
    """What `sim.verify.worker` needs to know to put a checker beside a design."""
    return {
        "design": str((subject.folder / "flat.il").resolve()), "clock": subject.clock,
        "edge": subject.edge, "reset": subject.reset.job() if subject.reset else None,
        "ports": [[port, signal] for port, _, signal in checker.ports],
        "count": max(1, len(checker.properties)),
    }  # fmt: skip


def _asserted(text: str) -> dict[int, int]:
    """Frame by output."""
    return {int(k): int(at) for k, at in _ASSERTED.findall(text)}


def _proved(text: str) -> set[int]:
    return {int(k) for k in _PROVED.findall(text)}


def _with_wave(
    ruling: Ruling, index: int, folder: Path, effort: Effort, name: str, subject: Subject
) -> Ruling:
    """With the waveform of its counterexample, which must show the violation when it is played."""
    stem = f"{name}_cex_{index}"
    engine = f"bmc3 -F {ruling.depth + 1}" if ruling.engine == "bmc3" else "pdr -q"
    _abc(f"cone -a -O {index}; {engine}; write_cex -a -t {stem}.aiw", folder, effort, name, "cex")
    unknown = Ruling(
        "unknown", f"{ruling.engine}, but its counterexample does not play", ruling.depth
    )
    job = {"job": "replay", "stem": name, "witness": f"{stem}.aiw", "vcd": f"{stem}.vcd"}
    try:
        run_worker(job | {"clock": subject.clock}, folder, name=f"{name}_replay")
    except ToolFailure:
        return unknown
    wave = read_vcd(folder / f"{stem}.vcd")
    bad = wave.values.get("hwgen_bad", ())
    depth = next((t + 1 for t, bits in enumerate(bad) if bits >> index & 1), None)
    if depth is None:
        return unknown
    return Ruling(ruling.verdict, ruling.engine, depth, wave.first(depth))


def reachable(
    subject: Subject, properties: Sequence[Property], folder: Path, effort: Effort
) -> list[bool | None]:
    """Whether each property's condition can be met (a cover: whether it can happen); None: not found out."""
    _build(subject, properties, folder, effort, "cover", "hit")
    text = _abc(f"pdr -v -a -H 1000 -T {effort.seconds:.0f}", folder, effort, "cover", "pdr")
    met, never = _asserted(text), _proved(text)
    return [True if k in met else False if k in never else None for k in range(len(properties))]


def tautologies(
    properties: Sequence[Property], folder: Path, effort: Effort, seed: int
) -> list[bool]:
    """Which properties hold whatever the signals do, and so say nothing of a design.

    Random signals refute most; a proof with every signal free decides the rest.
    """
    suspects = _not_refuted(properties, seed)
    verdicts = [False] * len(properties)
    if suspects:
        chosen = [properties[k] for k in suspects]
        plain = [Property(p.name, p.body) for p in chosen]
        proved = _proved(_free(plain, folder, effort, "free"))
        for position, k in enumerate(suspects):
            verdicts[k] = position in proved
    return verdicts


def _not_refuted(properties: Sequence[Property], seed: int) -> list[int]:
    widths: dict[str, int] = {}
    for item in properties:
        widths |= _widths(item)
    widths.pop(AFTER_RESET, None)
    trace = random_trace(widths, RANDOM_CYCLES, seed)
    return [k for k, item in enumerate(properties) if not judge(item, trace).bad.any()]


def _widths(item: Property) -> dict[str, int]:
    parts = item.body.arguments if isinstance(item.body, Monitor) else (item.body.bad,)
    return {n.name: n.width for e in parts for n in nodes(e) if isinstance(n, Signal)}


def redundant(properties: Sequence[Property], folder: Path, effort: Effort) -> list[bool]:
    """Which properties follow from those before them, whatever the design is."""
    checker = write_checker(properties)
    count = max(1, len(properties))
    lines = [
        f"  reg [{count - 1}:0] broken = {count}'h0;",
        "  always @(posedge clk) broken <= broken | wrong;",
        f"  wire [{count - 1}:0] new;",
        *(
            f"  assign new[{k}] = wrong[{k}]"
            + (f" & ~|broken[{k - 1}:0] & ~|wrong[{k - 1}:0];" if k else ";")
            for k in range(count)
        ),
    ]
    text = checker.text.replace(", bad, hit, env);", ", bad, hit, env, new_out);")
    text = text.replace("endmodule\n", "\n".join(
        [f"  output [{count - 1}:0] new_out;", *lines, "  assign new_out = new;", "endmodule\n"]))  # fmt: skip
    out = _free_text(text, folder, effort, "redundant", "new_out")
    proved = _proved(out)
    return [k in proved for k in range(len(properties))]


def _free(properties: Sequence[Property], folder: Path, effort: Effort, name: str) -> str:
    return _free_text(write_checker(properties).text, folder, effort, name, "bad")


def _free_text(text: str, folder: Path, effort: Effort, name: str, output: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.v").write_text(text)
    run_worker(
        {"job": "free", "stem": name, "checker": f"{name}.v", "output": output},
        folder,
        name=f"{name}_job",
    )
    return _abc(f"pdr -v -a -H 1000 -T {effort.seconds:.0f}", folder, effort, name, "pdr")
