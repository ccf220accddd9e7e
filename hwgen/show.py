# SPDX-License-Identifier: Apache-2.0
"""Results as tables: what the commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwgen.console import Console, duration, quantity

if TYPE_CHECKING:
    from designs.graph import GraphCard
    from generators.asic_build import AsicResult
    from generators.comparison import Row
    from generators.digit_statistics import Tally
    from generators.kernel import KernelPlan
    from generators.place import PlacedResult
    from generators.report_facts import PimRun, Point, Report
    from generators.sweep.result import SweepResult
    from generators.synth import SynthesisResult
    from hwgen.evaluate import DigitStatistics, Quality
    from hwgen.kernels import Deviation
    from schedules.optimal.instance import Instance
    from schedules.optimal.plan import Plan
    from sim.kernel_run import KernelResult
    from sim.pim.serving import Service
    from sim.pim.system import Design
    from sim.pim.workload import Decoder
    from sim.run import SimResult
    from sim.verify.campaign import Result
    from sim.verify.candidates import Standing
    from sim.verify.grade import Grade, Term
    from sim.verify.parts import Part


def show_engine(console: Console, out: Path, facts: dict[str, Any]) -> None:
    """Show what an engine alone is."""
    least, most = min(facts["beat_cycles"].values()), max(facts["beat_cycles"].values())
    taken = str(most) if least == most else f"{least} to {most}"
    used = [f"{count:,} {name.upper()}" for name, count in facts["resources"].items() if count]
    widths = f"{facts['x_bits']} x {facts['w_bits']} bits, sums of {facts['acc_bits']}"
    latency = f"a row leaves {facts['latency']} after the last one"
    console.facts(
        [
            ("engine", f"{facts['engine']}, {facts['macs']:,} products a cycle"),
            ("numbers", f"{widths}: exact up to {facts['longest_k']:,} elements"),
            ("cycles", f"{facts['beat_elements']} elements a beat, {taken} a beat; {latency}"),
            ("resources", f"{', '.join(used)} (estimate, UltraScale+)"),
            ("rtl", f"{out / 'rtl'}: {len(facts['modules'])} modules, top {facts['top']}"),
        ]
    )


def show_sweep(console: Console, result: SweepResult, folder: Path) -> None:
    """Print the designs that no other beats, and what was checked of them."""
    from generators.sweep.result import figure_text

    refused = sum(bool(d.reason) for d in result.designs)
    console.say(
        f"{len(result.designs):,} designs tried, {len(result.designs) - refused:,} possible, "
        f"{len(result.best):,} that no other one beats"
    )
    console.table(
        ["no.", "design", *result.objectives, "yosys", "RTL"],
        [
            [
                d.number,
                d.name,
                *(figure_text((d.figures or {})[o], o) for o in result.objectives),
                _synth_cell(d.synth),
                _sim_cell(d.sim),
            ]
            for d in result.best
        ],
    )
    failed = [d for d in result.designs if d.reason.startswith("failed: ")]
    if failed:
        console.warn(
            f"{len(failed):,} designs failed, first no. {failed[0].number}: {failed[0].reason[8:]}"
        )
    console.say(
        f"wrote {folder / 'sweep.html'} and sweep.json; a design is built by the command that they name"
    )


def _synth_cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if "lut" not in found:
        return f"failed: {found.get('failed') or found.get('refused')}"
    part = f", {len(found['unfinished'])} modules estimated" if found["unfinished"] else ""
    return f"{found['lut']:,} LUT, {found['dsp']:,} DSP{part}"


def _sim_cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if "identical" not in found:
        return f"failed: {found.get('failed') or found.get('refused')}"
    return "identical" if found["identical"] else f"differs: {found['mismatch']}"


def show_candidates(console: Console, standings: list[Standing], folder: Path) -> None:
    """Show how candidates rank."""
    rows = []
    for s in standings:
        said = (
            s.evidence.get("error")
            or f"{s.passed} of {s.evidence['scenarios']} scenarios {s.proof}"
        )
        rows.append((s.name, f"{s.score}: {said}"))
    console.facts(rows)
    console.say(f"wrote {folder / 'pairs.jsonl'}")


def show_grade(console: Console, grade: Grade, report: Path, ended: str = "") -> None:
    """Show a grade and what it is made of."""
    facts = [
        ("grade", f"{grade.percent} {grade.label}: {grade.points} of {grade.available:.0f} points")
    ]
    for term in grade.terms:
        if term.points is None:
            facts.append((term.name, f"missing, of {term.most:.0f}"))
        else:
            facts.append((term.name, f"{term.points:.1f} of {term.most:.0f}: {_counted(term)}"))
    if ended:
        facts.append(("ended", ended))
    console.facts([*facts, ("report", str(report))])


def _counted(term: Term) -> str:
    counts = term.counts
    match term.name:
        case "coverage":
            kinds = ("line", "branch", "expr", "toggle", "functional")
            return ", ".join(f"{k} {counts[f'{k}_covered']}/{counts[f'{k}_points']}" for k in kinds)
        case "properties":
            kinds = ("proven", "bounded", "falsified", "vacuous", "tautology", "unknown", "refused")
            return ", ".join(f"{counts[k]} {k}" for k in kinds if counts[k])
        case "mutants":
            said = (
                f"{counts['killed']} of {int(counts['total']) - int(counts['equivalent'])} killed"
            )
            if counts["by_properties"]:
                said += (
                    f" ({counts['by_outputs']} by outputs, {counts['by_properties']} by properties)"
                )
            return f"{said}, {counts['equivalent']} equivalent"
        case _:
            agree = f"{counts['passed']} of {counts['scenarios']} scenarios agree"
            return f"{agree}, {counts['values']:,} values; {counts['what']}"


def show_verification(console: Console, result: Result, folder: Path) -> None:
    """Show the grade of a module, what its specification says in vain, and what is to be noted."""
    ended = f"{result.status}, round {len(result.rounds)}, {duration(result.seconds)}"
    show_grade(console, result.grade, folder / "report.html", ended)
    for judgement in result.violations:
        console.say(f"falsified: {judgement.name}: {judgement.text}")
    for note in result.notes:
        console.say(f"note: {note}")


def show_parts(console: Console, parts: list[Part], folder: Path) -> None:
    """Show the grades of the modules of a build, and how many have none."""
    graded = [p for p in parts if not p.reason]
    console.table(
        ["module", "instances", "cells", "grade", "golden", "mutants", "properties"],
        [
            (p.name, str(p.count), f"{p.cells:,}", f"{p.percent} {p.label}", p.golden, p.mutants,
             str(p.standing))
            for p in graded
        ],
    )  # fmt: skip
    for part in parts:
        if part.reason:
            console.say(f"not graded: {part.name}: {part.reason}")
    console.say(f"{len(graded)} of {len(parts)} modules graded; wrote {folder / 'report.html'}")


def show_facts(console: Console, report: Report) -> None:
    """Print what was built, in a few lines."""
    used = report.resources
    busiest = max(report.resources.used, key=lambda kind: _share(report, kind))
    fits = "fits" if used.fits else "does not fit"
    routed = f"; routed: {report.placed.fmax_mhz:.1f} MHz" if report.placed else ""
    most = f"{_share(report, busiest):.0f} % of {busiest.upper()}"
    console.facts(
        [
            ("model", f"{report.model.name}, {quantity(report.model.parameters)} parameters"),
            ("target", f"{report.target.name} at {report.clock_mhz:g} MHz (assumed{routed})"),
            ("engine", f"{report.engine.name}, {report.lanes:,} products a cycle"),
            (
                "weights",
                f"{quantity(report.memory.weight_bytes, 'B')}, {report.memory.weight_format}",
            ),
            ("resources", f"{fits}; most: {most} ({used.basis})"),
        ]
    )


def show_report(console: Console, report: Report) -> None:
    """Print the figures of a report that people ask for first."""
    show_facts(console, report)
    console.say()
    points = [("prompt", p, p.tokens) for p in report.prefill]
    points += [("one token", p, p.context) for p in report.decode]
    console.table(
        ["predicted", "context", "cycles", "time", "tokens/s", "bound", "of roofline"],
        [_point(*point) for point in points],
    )
    for reason in report.resources.reasons:
        console.warn(reason)


def show_comparison(
    console: Console, folders: tuple[Path, Path], reports: tuple[Report, Report], rows: list[Row]
) -> None:
    """Print the figures of two builds, and the second's over the first's."""
    for folder, report in zip(folders, reports, strict=True):
        name = f"{report.model.name} on {report.target.name}, {report.engine.name}"
        console.say(f"{folder}: {name}, weights {report.memory.weight_format}")
    console.say()
    console.table(
        ["predicted", "unit", str(folders[0]), str(folders[1]), "ratio"],
        [
            [
                row.name, row.unit, _figure(row.one), _figure(row.two),
                "" if row.ratio is None else f"{row.ratio:.3f}",
            ]
            for row in rows
        ],
    )  # fmt: skip
    bases = [report.resources.basis for report in reports]
    console.say()
    console.say(f"resources: {bases[0]}" + (f" and {bases[1]}" if bases[0] != bases[1] else ""))


def _figure(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _point(name: str, point: Point, context: int) -> list[object]:
    share = f"{100 * point.roofline_fraction:.1f} %"
    time, rate = f"{1e3 * point.seconds:.3g} ms", f"{point.tokens_per_second:,.0f}"
    return [name, context, point.cycles, time, rate, point.bound, share]


def _share(report: Report, kind: str) -> float:
    """Percent of a resource that is used."""
    used, available = report.resources.used[kind], report.resources.available[kind]
    return 100 * used / available if available else 0.0


def show_kernel(console: Console, result: KernelResult) -> None:
    """Print the cycles of a kernel's phases beside those that were predicted, and what they went to."""
    console.table(
        [
            "core",
            "phase",
            "predicted",
            "cycles",
            "beats",
            "starved",
            "blocked",
            "waiting",
            "switch",
        ],
        [
            [
                p.core,
                p.name,
                p.predicted,
                p.cycles,
                p.beats,
                p.starved,
                p.blocked,
                p.waiting,
                p.switch,
            ]
            for p in result.phases
        ],
    )
    links = [f"{a} to {b}: {most} of {depth}" for (a, b), (most, depth) in result.links.items()]
    off = 100 * (result.predicted / result.cycles - 1)
    speed = quantity(result.cycles / max(result.wall_seconds, 1e-9), " cycles/s")
    console.facts(
        [
            ("cycles", f"{result.cycles:,} (predicted {result.predicted:,}, {off:+.2f} %)"),
            *([("most rows in links", ", ".join(links))] if links else []),
            ("wall time", f"{duration(result.wall_seconds)} ({speed})"),
        ]
    )


def show_simulation(console: Console, result: SimResult) -> None:
    """Print what a simulation gave, but not whether it was right."""
    facts: list[tuple[str, object]] = []
    if result.tokens:
        speed = len(result.tokens) / max(result.wall_seconds, 1e-9)
        facts.append(("tokens", f"{len(result.tokens)} ({quantity(speed)} tokens/s simulated)"))
    facts.append(("cycles", result.cycles))
    if result.cycles_per_token:
        facts.append(("cycles per token", round(result.cycles_per_token)))
    speed = quantity(result.cycles_per_second, " cycles/s")
    facts.append(("wall time", f"{duration(result.wall_seconds)} ({speed})"))
    console.facts(facts)


def show_pim_run(console: Console, run: PimRun) -> None:
    """Print what a run on PIM channels took beside what was predicted."""

    def both(counted: int, predicted: int) -> str:
        return f"{counted:,} ({predicted:,} predicted, {100 * (predicted / counted - 1):+.2f} %)"

    counters = ", ".join(f"{n:,} {name}" for name, n in run.counters.items())
    console.facts([
        ("cycles of the run", both(run.cycles, run.cycles_predicted)),
        ("attention on PIM", both(run.attention, run.attention_predicted)),
        ("first PIM channel", counters),
    ])  # fmt: skip


def show_perplexity(console: Console, found: list[Quality]) -> None:
    """Print perplexities beside each other, against the first one."""
    first = found[0]
    weights = first.weight_bytes / 4
    console.table(
        ["weights", "perplexity", "against float", "bits/token", "tokens", "kB", "bits/weight"],
        [
            [
                row.name,
                f"{row.perplexity.perplexity:.4f}",
                f"{100 * (row.perplexity.perplexity / first.perplexity.perplexity - 1):+.2f} %",
                f"{row.perplexity.bits:.4f}",
                row.perplexity.tokens,
                f"{row.weight_bytes / 1e3:,.1f}",
                f"{8 * row.weight_bytes / weights:.3f}",
            ]
            for row in found
        ],
    )
    for row in found:
        if row.tensors:
            console.say(f"{row.name}: --tensors {row.tensors}")


def show_accuracy(console: Console, card: GraphCard, found: list[Deviation]) -> None:
    """Print how far the integers of a kernel's tasks are from float64."""
    console.table(
        ["task", "shape", "one step", "largest error", "signal to noise"],
        [
            [
                row.tensor,
                "x".join(map(str, card.shape(row.tensor))),
                f"{row.scale:.3g}",
                f"{row.largest:.1f} steps",
                f"{row.signal_to_noise:.1f} dB",
            ]
            for row in found
        ],
    )


def show_digits(console: Console, found: DigitStatistics, layers: bool) -> None:
    """Print digits and cycles of weights and activations, and what follows for digit-serial PEs.

    Parameters
    ----------
    layers : every layer by itself, not all of them together.
    """
    from generators.digit_statistics import DIGITS, LANES, mean
    from hw.arith.digits import ENCODINGS

    alike: dict[int, str] = {}  # PEs of as many lanes take the same cycles
    for pe, lanes in LANES.items():
        alike[lanes] = f"{alike[lanes]}, {pe}" if lanes in alike else pe
    beat = next(iter(found.weights.values())).beat
    elements = {key: tally.elements for key, tally in found.weights.items()}
    sides = {
        "weights": (found.weights, elements),
        "activations": (found.activations, found.macs),
    }
    console.say(
        f"in lock step: rows {beat.rows}, elements of a row {beat.reduce}; cycles are of csd"
    )
    for side, (tallies, _) in sides.items():
        shown = _by_layer(tallies) if layers else _by_name(tallies)
        console.say()
        console.table(
            [side, "numbers", "zeros", "one bits"]
            + [f"{encoding} digits" for encoding in ENCODINGS]
            + [f"cycles {pes}" for pes in alike.values()],
            [
                [name, tally.elements, f"{100 * tally.zeros:.1f} %", round(tally.ones, 3)]
                + [round(tally.digits(encoding), 3) for encoding in ENCODINGS]
                + [round(tally.cycles_per_operand("csd", lanes), 3) for lanes in alike]
                for name, tally in shown.items()
            ],
        )
    rows: list[list[object]] = []
    for side, (tallies, times) in sides.items():
        pairs = [(tally, times[key]) for key, tally in tallies.items()]
        for encoding in ENCODINGS:
            shares = [
                mean(pairs, lambda tally, e=encoding, n=n: tally.histogram(e)[n])
                for n in range(DIGITS + 1)
            ]
            digits = mean(pairs, lambda tally, e=encoding: tally.digits(e))
            row: list[object] = [side, encoding, *(f"{100 * share:.1f} %" for share in shares)]
            row.append(round(digits, 3))
            for lanes in alike:
                cycles = mean(pairs, lambda t, e=encoding, n=lanes: t.cycles_per_operand(e, n))
                row += [round(cycles, 3), f"{DIGITS / cycles:.2f}x", f"{1 / cycles:.2f}x"]
            rows.append(row)
    console.say()
    console.say(f"all together, activations as often as they are multiplied ({found.calibration}):")
    console.table(
        ["operand", "encoding", *(f"{n} digits" for n in range(DIGITS + 1)), "mean"]
        + [
            name
            for pes in alike.values()
            for name in (f"cycles {pes}", "to all digits", "to a MAC")
        ],
        rows,
    )


def _by_layer(tallies: Mapping[tuple[int, str], Tally]) -> dict[str, Tally]:
    layers = max(layer for layer, _ in tallies)  # the head stands behind the layers
    return {
        name if layer == layers else f"h{layer}.{name}": tally
        for (layer, name), tally in tallies.items()
    }


def _by_name(tallies: Mapping[tuple[int, str], Tally]) -> dict[str, Tally]:
    total: dict[str, Tally] = {}
    for (_, name), tally in tallies.items():
        total[name] = total[name] + tally if name in total else tally
    return total


def show_synthesis(console: Console, result: SynthesisResult) -> None:
    """Print what each module takes, and all of them together."""
    total, available = result.total.rounded(), result.available.rounded()
    console.table(
        ["module", "instances", *(kind.upper() for kind in total), "CARRY", "basis"],
        [
            [
                module.name,
                module.count,
                *module.resources.rounded().values(),
                module.carries,
                module.basis,
            ]
            for module in result.modules
        ],
        title="one instance, without the modules in it",
    )
    console.say()
    console.table(
        ["resource", "used", result.target, "percent"],
        [
            [kind.upper(), total[kind], available[kind], _percent(total[kind], available[kind])]
            for kind in total
        ],
        title=result.tool,
    )
    for module in result.uncounted:
        kept = "its estimate is kept" if module.basis == "estimate" else "its block is estimated"
        console.warn(f"{module.name}: {module.note}; {kept}")


def show_asic(console: Console, result: AsicResult) -> None:
    """Print what each module takes in standard cells, and the design at several clock targets."""
    best = result.best
    console.table(
        ["module", "instances", "um2", "flip-flops um2", "path ns", "memory bits"],
        [
            [
                module.name,
                module.count,
                round(fit.area_um2),
                round(fit.sequential_um2),
                f"{fit.critical_ns:.3f}",
                module.macro_bits,
            ]
            for module in result.modules
            if module.fits
            for fit in [module.at(best.target_ns)]
        ],
        title=f"one instance, without the modules in it, at {best.target_ns:.3f} ns",
    )
    console.say()
    console.table(
        ["target ns", "path ns", "mm2", "mm2 ns", "slowest module"],
        [
            [
                f"{target.target_ns:.3f}",
                f"{target.period_ns:.3f}",
                f"{target.area_um2 / 1e6:.4f}",
                f"{target.area_delay:.4f}",
                target.slowest,
            ]
            for target in result.sweep
        ],
        title=f"{result.library} ({result.conditions}), {result.tool}, timed by {result.timer}",
    )
    if result.macro_bits:
        console.say(
            f"{result.macro_bits:,} bits of memory are not in the area: {result.macro_rule}"
        )
    for module in result.unfinished:
        console.warn(f"{module.name}: {module.note}; the totals lack it")


def show_placed(console: Console, out: Path, result: PlacedResult) -> None:
    """Print what a design takes of its part, placed and routed, and how fast it is."""
    used, available, harness = (
        r.rounded() for r in (result.used, result.available, result.harness)
    )
    console.table(
        ["resource", "used", "of it harness", result.part, "percent"],
        [
            [kind.upper(), used[kind], harness[kind], available[kind],
             _percent(used[kind], available[kind])]
            for kind in ("lut", "ff", "dsp", "bram")
        ],
        title=f"placed and routed by {result.tool}",
    )  # fmt: skip
    tried = ", ".join(f"seed {entry.seed}: {entry.fmax_mhz:.1f}" for entry in result.seeds)
    console.say()
    console.say(
        f"{result.fmax_mhz:.1f} MHz ({tried}); the longest path has {result.logic_ns:.1f} ns of logic and "
        f"{result.routing_ns:.1f} ns of routing"
    )
    console.say(f"{out / 'ecp5' / 'design.bit'}: {result.bitstream_bytes:,} bytes")
    if not result.met:
        console.warn(f"the clock of {result.asked_mhz:g} MHz is missed")


def _percent(used: int, available: int) -> str:
    if not available:
        return "none there" if used else ""
    return f"{100 * used / available:.1f} %"


def show_plan(console: Console, card: GraphCard, kernel: KernelPlan) -> None:
    """Print when every task of a kernel runs, what binds it, and the whole beside what others reached."""
    machine = card.machine
    cores = ", ".join(f"c{n} {size}" for n, size in enumerate(kernel.cores))
    published = card.published
    show_runs(
        console, kernel.instance(card), kernel.plan,
        cores=f"{cores} of {machine.granules} {machine.grow}, {machine.lanes} lanes in all",
        use=card.macs / machine.lanes / kernel.plan.makespan,
        published=(published.cycles, published.source) if published else None,
    )  # fmt: skip


def show_runs(
    console: Console, instance: Instance, plan: Plan, *, cores: str, use: float,
    published: tuple[int, str] | None,
) -> None:  # fmt: skip
    """Print a plan.

    Parameters
    ----------
    cores : which there are
    use : part of all multipliers that work in a cycle, on average
    published : cycles of others, and whose
    """
    from schedules.optimal.why import binds, waits

    rows = []
    for run in sorted(plan.runs, key=lambda r: (r.start, r.end)):
        why = waits(instance, plan, run.task), binds(instance, plan, run.task)
        rows.append([run.task, run.mode, run.start, run.end, *why])
    console.table(["task", "mode", "start", "end", "starts after", "bound by"], rows)
    console.say()
    places = [
        f"{p.tensor} to {p.to}: {p.place}{f' in {p.home}' if p.home else ''}" for p in plan.places
    ]
    least = "proven optimal" if plan.proven else f"no plan has less than {plan.bound:,}"
    if plan.policy == "hand-intar":
        least = "the authors' cadences"
    facts: list[tuple[str, object]] = [
        ("cores", cores),
        ("tensors", "; ".join(places)),
        ("memory", f"{quantity(plan.offchip_bytes, 'B')} read and written"),
        ("links", f"{plan.links} between units"),
        ("cycles", f"{plan.makespan:,} predicted ({least}), lanes busy {use:.1%}"),
    ]
    if published is not None:
        cycles, source = published
        facts.append(("published", f"{cycles:,} ({source}), {cycles / plan.makespan:.2f}x"))
    console.facts(facts)


def show_pim(
    console: Console, model: Decoder, batches: Sequence[Any], designs: Sequence[Design]
) -> None:
    """A layer of a decoder on each design, as the mean over batches; details if there is only one."""
    from hw.pim.timing import PRESETS
    from sim.pim.system import energy, layer_time

    rows: list[list[object]] = []
    size = len(batches[0])
    for design in designs:
        layers = [layer_time(design, model, lengths) for lengths in batches]
        cycles = sum(x.cycles for x in layers) / len(layers)
        busy = [sum(part) / len(layers) / cycles for part in
                ((x.npu for x in layers), (x.pim for x in layers),
                 (64 * x.counts.get("RD", 0) / 1024 for x in layers))]  # fmt: skip
        step = cycles * model.layers / 1e6
        timing = design.channel.timing if design.channel else PRESETS["neupims-hbm"]
        joule = "-"
        if not design.gpu:
            parts = [sum(energy(timing, design.channel, x).values()) for x in layers]
            joule = f"{sum(parts) / len(parts) * model.layers * model.tensor / size / 1e6:.2f}"
        rows.append(
            [
                design.name, f"{cycles:,.0f}", f"{size * model.pipeline / step * 1e3:,.0f}",
                f"{step:.2f}", *(f"{100 * b:.0f}" for b in busy), joule,
                "yes" if all(x.interleaved for x in layers) else "no", design.text,
            ]
        )  # fmt: skip
    console.table(
        ["design", "cycles a layer", "tokens/s", "ms a token", "NPU %", "PIM %", "bus %",
         "memory mJ a token", "sub-batches", ""],
        rows,
    )  # fmt: skip
    if len(designs) == 1:
        layer = layer_time(designs[0], model, batches[0])
        console.facts(
            [(name, f"{cycles:,.0f} cycles") for name, cycles in layer.stages.items()]
            + [
                (f"bound by {name}", f"{cycles:,.0f} cycles")
                for name, cycles in layer.bounds.items()
            ]
        )


def show_pim_service(console: Console, served: Sequence[tuple[Design, Service]]) -> None:
    """How each design served the same requests."""
    rows: list[list[object]] = [
        [
            design.name, s.requests, s.iterations, f"{s.seconds:.2f}", f"{s.tokens_per_second:,.0f}",
            f"{s.batch:.0f}", *(f"{a:.1f} / {b:.1f} / {c:.1f}" for a, b, c in (s.first_token, s.per_token)),
            s.waited_for_memory,
        ]
        for design, s in served
    ]  # fmt: skip
    console.table(
        ["design", "requests", "iterations", "s", "tokens/s", "batch",
         "first token, ms (50/90/99 %)", "per token, ms", "waits for memory"],
        rows,
    )  # fmt: skip
