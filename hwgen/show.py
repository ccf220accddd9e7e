"""Results as tables: what the commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwgen.console import Console, duration, quantity

if TYPE_CHECKING:
    from generators.asic_build import AsicResult
    from generators.report import Point, Report
    from generators.synth import SynthesisResult
    from sim.perplexity import Comparison
    from sim.run import SimResult


def show_facts(console: Console, report: Report) -> None:
    """Print what was built, in a few lines."""
    used = report.resources
    busiest = max(report.resources.used, key=lambda kind: _share(report, kind))
    fits = "fits" if used.fits else "does not fit"
    most = f"{_share(report, busiest):.0f} % of {busiest.upper()}"
    console.facts(
        [
            ("model", f"{report.model.name}, {quantity(report.model.parameters)} parameters"),
            ("target", f"{report.target.name} at {report.clock_mhz:g} MHz (assumed)"),
            ("engine", f"{report.engine.name}, {report.lanes:,} multipliers"),
            ("weights", quantity(report.memory.weight_bytes, "B")),
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


def _point(name: str, point: Point, context: int) -> list[object]:
    share = f"{100 * point.roofline_fraction:.1f} %"
    time, rate = f"{1e3 * point.seconds:.3g} ms", f"{point.tokens_per_second:,.0f}"
    return [name, context, point.cycles, time, rate, point.bound, share]


def _share(report: Report, kind: str) -> float:
    """Percent of a resource that is used."""
    used, available = report.resources.used[kind], report.resources.available[kind]
    return 100 * used / available if available else 0.0


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


def show_perplexity(console: Console, found: Comparison) -> None:
    """Print two perplexities beside each other."""
    console.table(
        ["model", "perplexity", "bits/token", "tokens"],
        [
            [name, f"{value.perplexity:.4f}", f"{value.bits:.4f}", value.tokens]
            for name, value in (("float", found.reference), ("integers", found.golden))
        ],
    )
    console.say(f"perplexity of the integers against the float model: {found.worse_percent:+.2f} %")


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


def _percent(used: int, available: int) -> str:
    if not available:
        return "none there" if used else ""
    return f"{100 * used / available:.1f} %"
