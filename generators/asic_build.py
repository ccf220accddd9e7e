# SPDX-License-Identifier: Apache-2.0
"""What a build takes in standard cells: each unique module alone, times its instances.

Modules are mapped with their children as black boxes, and memories cut out, so the figures add up
to all cells of the design. Paths that cross a border between modules are not seen whole: a
module's critical path counts what begins at an input as if it arrived with the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from designs.errors import DesignError
from designs.progress import Progress
from generators import yosys
from generators.asic import Point, measure, pareto
from generators.files import write
from generators.liberty import Liberty
from generators.synth import Module, children, load_json, modules_of
from generators.timing import find_timer
from generators.yosys import SynthesisError

__all__ = ["AsicModule", "AsicResult", "Fit", "Target", "synthesise_asic"]

MACRO_BITS = 1024
"""A memory of so many bits that is written is a macro of the foundry, not flip-flops."""

_SCRIPTS, _ADDERS, _BOOTH = ("gia", "gia-lean", "area"), ("brent-kung", "sklansky"), (True,)
"""A part of the choices: a build has fifty modules, and the others are seldom the best."""

_MOST_TARGETS = 10


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fit(_Value):
    """One way to map a module.

    Attributes
    ----------
    critical_ns : longest path, from flip-flop or input to flip-flop or output; 0 for mere wires
    area_um2, sequential_um2 : of its cells, and of the flip-flops among them
    script, adder, booth, target_ps : how, see `generators.asic_recipe.Choice`
    """

    critical_ns: float
    area_um2: float
    sequential_um2: float
    script: str
    adder: str
    booth: bool
    target_ps: int


class AsicModule(_Value):
    """A unique module.

    Attributes
    ----------
    name : of the module
    count : instances in the whole design
    macro_bits : bits of its memories, of one instance, which have no area here
    fits : the fastest first; no other is better than one of them in both period and area
    note : why there are none
    """

    name: str
    count: int
    macro_bits: int = 0
    fits: tuple[Fit, ...] = ()
    note: str = ""

    def at(self, period_ns: float) -> Fit:
        """Return the smallest fit that is as fast as asked, or else the fastest."""
        fast = [fit for fit in self.fits if fit.critical_ns <= period_ns]
        return fast[-1] if fast else self.fits[0]


class Target(_Value):
    """The whole design at one clock target.

    Attributes
    ----------
    target_ns : the period asked for
    period_ns : the period reached: the critical path of the slowest module
    slowest : that module
    area_um2 : of all cells of all instances
    """

    target_ns: float
    period_ns: float
    slowest: str
    area_um2: float

    @property
    def area_delay(self) -> float:
        """Area times period, in mm2 ns."""
        return self.area_um2 * self.period_ns / 1e6


class AsicResult(_Value):
    """What a build takes in a library.

    Attributes
    ----------
    top : its top module
    library, conditions : what it was mapped to
    tool : yosys with its version, and what maps and times
    timer : what measured time
    modules : every unique module, sorted by name
    sweep : the design at several clock targets, the fastest first
    macro_bits : bits of the memories of all instances, which have no area here
    macro_rule : what counts as one
    """

    top: str
    library: str
    conditions: str
    tool: str
    timer: str
    modules: tuple[AsicModule, ...]
    sweep: tuple[Target, ...]
    macro_bits: int
    macro_rule: str

    @property
    def best(self) -> Target:
        """The target of the smallest area-delay product."""
        return min(self.sweep, key=lambda target: (target.area_delay, target.period_ns))

    @property
    def unfinished(self) -> tuple[AsicModule, ...]:
        """Modules without figures: the totals lack them."""
        return tuple(module for module in self.modules if not module.fits)


def synthesise_asic(
    out: Path,
    library: Liberty,
    progress: Progress,
    *,
    limit: float = 900,
    periods_ns: Sequence[float] = (),
    jobs: int = 2,
) -> AsicResult:
    """Map a build to a library, and write it to synth-asic.json and into its report.

    Parameters
    ----------
    out : a folder that ``hwgen build`` wrote
    library : what to map to
    progress : where steps are reported
    limit : seconds for one mapping of a module
    periods_ns : clock targets; if left out, those between which the modules' fits change
    jobs : processes at a time

    Raises
    ------
    DesignError
        If `out` is not a build, or one of slices that only an FPGA has.
    SynthesisError
        If yosys is missing, or finished no module.
    """
    yosys.require()
    design = load_json(out / "design.json")
    modules = modules_of(out, design)
    sliced = next((m.name for m in modules if "DSP48E2 #(" in m.files[0].read_text("utf-8")), None)
    if sliced is not None:
        raise DesignError(
            f"{out} has slices of an FPGA ({sliced}): build it with another --engine, tree:mac for example"
        )
    own = min(flop.clk_to_q_ns + flop.setup_ns for flop in library.flip_flops.values())
    targets_ps = (1, *(max(1, round(1e3 * (period - own))) for period in periods_ns))
    with progress.step("synth", f"{len(modules)} unique modules for {library.name}") as step:
        mapped = _map(modules, library, targets_ps, limit, jobs, progress)
        missing = [module for module in mapped if not module.fits]
        if len(missing) == len(modules):
            raise SynthesisError(f"no module was mapped: {missing[0].note}")
        step.detail += f", {len(missing)} not mapped" if missing else ""
    result = AsicResult(
        top=design["top"],
        library=library.name,
        conditions=library.conditions,
        tool=f"yosys {yosys.version()} with ABC",
        timer=find_timer().name,
        modules=tuple(sorted(mapped, key=lambda module: module.name)),
        sweep=_sweep(mapped, periods_ns),
        macro_bits=sum(module.macro_bits * module.count for module in mapped),
        macro_rule=f"memories that are written, of {MACRO_BITS} bits or more",
    )
    from generators.report import apply_asic  # which imports this file

    write(out / "synth-asic.json", result.model_dump_json(indent=2) + "\n")
    apply_asic(out, result)
    return result


def _map(
    modules: Sequence[Module],
    library: Liberty,
    targets_ps: Sequence[int],
    limit: float,
    jobs: int,
    progress: Progress,
) -> list[AsicModule]:
    known = {module.name: module for module in modules}
    mapped = []
    for number, module in enumerate(modules):
        boxes = [path for child in children([module], known) for path in known[child].files]
        facts = {"name": module.name, "count": module.count}
        try:
            measured = measure(
                module.files,
                module.name,
                library,
                boxes=boxes,
                scripts=_SCRIPTS,
                adders=_ADDERS,
                booth=_BOOTH,
                targets_ps=targets_ps,
                macro_bits=MACRO_BITS,
                jobs=jobs,
                limit=limit,
            )
        except SynthesisError as error:
            mapped.append(AsicModule(**facts, note=str(error).removeprefix(f"{module.name}: ")))
        else:
            fits = tuple(map(_fit, pareto(measured.points, lambda p: p.critical_ns)))
            mapped.append(AsicModule(**facts, macro_bits=measured.macro_bits, fits=fits))
        progress.advance(number + 1, len(modules), f"{number + 1} of {len(modules)} modules")
    return mapped


def _fit(point: Point) -> Fit:
    return Fit(
        critical_ns=point.critical_ns,
        area_um2=point.area_um2,
        sequential_um2=point.sequential_um2,
        script=point.script,
        adder=point.adder,
        booth=point.booth,
        target_ps=point.target_ps,
    )


def _sweep(modules: Sequence[AsicModule], periods_ns: Sequence[float]) -> tuple[Target, ...]:
    finished = [module for module in modules if module.fits]
    if periods_ns:
        return tuple(_target(finished, period) for period in sorted(set(periods_ns)))
    fastest = max(module.fits[0].critical_ns for module in finished)
    steps = sorted({m.critical_ns for module in finished for m in module.fits})
    targets: list[Target] = []
    for period in (step for step in steps if step >= fastest):
        target = _target(finished, period)
        if not targets or target.area_um2 < targets[-1].area_um2:
            targets.append(target)
    if len(targets) <= _MOST_TARGETS:
        return tuple(targets)
    best = min(targets, key=lambda t: (t.area_delay, t.period_ns))
    spread = {round(i * (len(targets) - 1) / (_MOST_TARGETS - 1)) for i in range(_MOST_TARGETS)}
    return tuple(t for i, t in enumerate(targets) if i in spread or t is best)


def _target(modules: Sequence[AsicModule], period_ns: float) -> Target:
    used = {module.name: module.at(period_ns) for module in modules}
    slowest = max(sorted(used), key=lambda name: used[name].critical_ns)
    return Target(
        target_ns=period_ns,
        period_ns=used[slowest].critical_ns,
        slowest=slowest,
        area_um2=round(sum(used[m.name].area_um2 * m.count for m in modules), 4),
    )
