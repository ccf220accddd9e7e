# SPDX-License-Identifier: Apache-2.0
"""Area and period of a design in standard cells, mapped in many ways, of which the best count."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from designs.cache import cache_folder, digest
from designs.progress import Progress, SilentProgress
from generators import asic_recipe, timing, yosys
from generators.asic_recipe import ADDERS, SCRIPTS, Choice
from generators.files import write
from generators.liberty import Liberty
from generators.timing import Timer, abc_timer, find_timer
from generators.yosys import SynthesisError

__all__ = ["Measurement", "Point", "best", "measure", "netlist", "pareto"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Value):
    """One way in which a design was mapped, and what came of it.

    Attributes
    ----------
    script, adder, booth, target_ps : as in `Choice`
    area_um2 : of all cells
    sequential_um2 : of the flip-flops among them
    period_ns : longest path from flip-flop to flip-flop, with clk->Q and setup; of a design
        without such paths the same as `through_ns`, of one without any 0
    through_ns : longest path that begins at an input or ends at an output; None if `timer` cannot
        tell it from the others
    timer : what measured the time
    cells : cells by type
    """

    script: str
    adder: str
    booth: bool
    target_ps: int
    area_um2: float
    sequential_um2: float
    period_ns: float
    through_ns: float | None
    timer: str
    cells: dict[str, int]

    @property
    def area_delay(self) -> float:
        """Area times period, in um2 ns: less is better."""
        return self.area_um2 * self.period_ns

    @property
    def critical_ns(self) -> float:
        """The longest path of all, where inputs arrive with the clock."""
        return max(self.period_ns, self.through_ns or 0.0)

    @property
    def choice(self) -> Choice:
        """The way in which it was mapped."""
        return Choice(self.script, self.adder, self.booth, self.target_ps)


_KEPT: TypeAdapter[Point | None] = TypeAdapter(Point | None)
"""What the cache holds for a choice; None if ABC could not buffer it."""


def pareto(
    points: Iterable[Point], time: Callable[[Point], float] = lambda point: point.period_ns
) -> tuple[Point, ...]:
    """Return the points that no other is better than in both time and area, the fastest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (time(p), p.area_um2)):
        if not kept or point.area_um2 < kept[-1].area_um2:
            kept.append(point)
    return tuple(kept)


def best(points: Iterable[Point]) -> Point:
    """Return the point of the smallest area-delay product."""
    return min(points, key=lambda p: (p.area_delay, p.period_ns))


@dataclass(frozen=True)
class Measurement:
    """All ways in which a design was mapped.

    Attributes
    ----------
    top : the module
    library : name and conditions of the library
    points : in the order of the choices
    macro_bits : bits of the memories that were cut out
    unfinished : choices that took longer than allowed, or whose nets ABC could not buffer
    """

    top: str
    library: str
    points: tuple[Point, ...]
    macro_bits: int = 0
    unfinished: tuple[Choice, ...] = ()

    @property
    def pareto(self) -> tuple[Point, ...]:
        """See `pareto`."""
        return pareto(self.points)

    @property
    def best(self) -> Point:
        """See `best`."""
        return best(self.points)

    @property
    def fastest(self) -> Point:
        """The point of the shortest period."""
        return self.pareto[0]


def measure(
    files: Sequence[Path],
    top: str,
    library: Liberty,
    *,
    boxes: Sequence[Path] = (),
    scripts: Sequence[str] = tuple(SCRIPTS),
    adders: Sequence[str] = tuple(ADDERS),
    booth: Sequence[bool] = (False, True),
    targets_ps: Sequence[int] = (1,),
    macro_bits: int | None = None,
    jobs: int = 2,
    limit: float = 600,
    timer: Timer | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Map a design to a library in every combination of the choices given.

    Choices that make no difference to the design are left out: adders if nothing in it adds, Booth
    if nothing multiplies. Results are kept in the cache, so a second call takes no time.

    Parameters
    ----------
    files : Verilog, ``.v`` or ``.sv``; what `top` instantiates is flattened into it
    top : name of the module
    library : what to map to
    boxes : Verilog of modules that stay black boxes, without area
    scripts, adders, booth, targets_ps : see `Choice`
    macro_bits : cut out memories that are written and hold at least so many bits; if left out,
        every memory becomes flip-flops
    jobs : processes at a time
    limit : seconds for one of them
    timer : what measures time; OpenSTA if it is there, else ABC
    progress : is told how many of the choices are done

    Raises
    ------
    SynthesisError
        If yosys is missing, cannot read the design, leaves anything unmapped, did not finish one
        choice, or leaves no cell of a design that has outputs and nothing cut out.
    ValueError
        If a choice is not known.
    """
    yosys.require()
    unknown = [n for n in scripts if n not in SCRIPTS] + [n for n in adders if n not in ADDERS]
    if unknown:
        known = f"scripts {', '.join(SCRIPTS)}; adders {', '.join(ADDERS)}"
        raise ValueError(f"{unknown[0]!r} is not known ({known})")
    work = _Work(
        files=[path.resolve() for path in files],
        boxes=[path.resolve() for path in boxes],
        top=top,
        library=library,
        macro_bits=macro_bits,
        timer=timer or find_timer(),
        jobs=jobs,
        limit=limit,
        progress=progress or SilentProgress(),
    )
    asked = [
        Choice(script, adder, b, target)
        for b, adder, script, target in itertools.product(booth, adders, scripts, targets_ps)
    ]
    points = work.measure(asked)
    if not points:
        raise SynthesisError(work.unfinished)
    return Measurement(
        top=top,
        library=f"{library.name} ({library.conditions})",
        points=tuple(points[choice] for choice in work.sensible(asked) if choice in points),
        macro_bits=work.facts[False].macro_bits,
        unfinished=tuple(choice for choice in work.sensible(asked) if choice not in points),
    )


def netlist(
    files: Sequence[Path],
    top: str,
    library: Liberty,
    choice: Choice,
    *,
    boxes: Sequence[Path] = (),
    macro_bits: int | None = None,
    limit: float = 600,
) -> str:
    """Return the Verilog netlist of one choice, of single-bit wires and cells of the library.

    Parameters and errors are those of `measure`; it is made anew at every call.
    """
    yosys.require()
    work = _Work(
        files=[path.resolve() for path in files],
        boxes=[path.resolve() for path in boxes],
        top=top,
        library=library,
        macro_bits=macro_bits,
        timer=abc_timer(),
        jobs=1,
        limit=limit,
        progress=SilentProgress(),
    )
    return work.netlist(choice)


class _Facts(_Value):
    """What a front end found.

    Attributes
    ----------
    multiplies, adds : whether there is something to multiply, to add
    clocks : inputs that clock something
    macro_bits : bits of the memories that were cut out
    empty : whether there may be no cells: no outputs, or what drives them was cut out
    """

    multiplies: bool
    adds: bool
    empty: bool
    clocks: tuple[str, ...]
    macro_bits: int


@dataclass
class _Work:
    """One design under measurement; the members are the parameters of `measure`."""

    files: list[Path]
    boxes: list[Path]
    top: str
    library: Liberty
    macro_bits: int | None
    timer: Timer
    jobs: int
    limit: float
    progress: Progress

    def __post_init__(self) -> None:
        texts = [path.read_bytes() for path in (*self.files, *self.boxes)]
        recipe = [Path(part).read_bytes() for part in (asic_recipe.__file__, timing.__file__)]
        recipe += [path.read_bytes() for path in asic_recipe.TEMPLATES]
        count = f"{len(self.files)} {self.top} {self.macro_bits}"
        self.design = digest(yosys.version(), *recipe, self.library.digest, count, *texts)
        self.facts: dict[bool, _Facts] = {}

    @property
    def unfinished(self) -> str:
        """What to say if there is no result."""
        return f"{self.top}: ABC did not finish it in {self.limit:g} s, or could not buffer it"

    def _kept(self, *parts: object) -> Path:
        return cache_folder() / "asic" / f"{digest(self.design, *map(str, parts))}.json"

    def sensible(self, asked: Sequence[Choice]) -> list[Choice]:
        """The choices that make a difference, once the front ends have run."""
        kept: list[Choice] = []
        for choice in asked:
            booth = choice.booth and self.facts[False].multiplies
            adder = choice.adder if self.facts[booth].adds else next(iter(ADDERS))
            same = Choice(choice.script, adder, booth, choice.target_ps)
            if same not in kept:
                kept.append(same)
        return kept

    def measure(self, asked: Sequence[Choice]) -> dict[Choice, Point]:
        """Every sensible choice that finished in time."""
        with tempfile.TemporaryDirectory(prefix="hwgen-asic-") as name:
            folder = Path(name)
            self._know(folder, False)
            if self.facts[False].multiplies and any(choice.booth for choice in asked):
                self._know(folder, True)
            else:
                self.facts[True] = self.facts[False]
            choices = self.sensible(asked)
            found: dict[Choice, Point | None] = {}
            for choice in choices:
                kept = self._kept(choice, self.timer)
                if kept.is_file():
                    found[choice] = _KEPT.validate_json(kept.read_bytes())
            missing = [choice for choice in choices if choice not in found]
            for run in self._mapped(folder, missing):
                found[run.task] = None
                if not run.late:
                    found[run.task] = None if asic_recipe.REFUSED in run.log else self._point(run)
                    kept = self._kept(run.task, self.timer)
                    write(kept, _KEPT.dump_json(found[run.task]).decode())
                done = f"{len(found)} of {len(choices)} mappings"
                self.progress.advance(len(found), len(choices), done)
        return {choice: point for choice, point in found.items() if point is not None}

    def netlist(self, choice: Choice) -> str:
        """Verilog of one choice."""
        with tempfile.TemporaryDirectory(prefix="hwgen-asic-") as name:
            folder = Path(name)
            self._front(folder, choice.booth)
            for run in self._mapped(folder, [choice]):
                if run.late or asic_recipe.REFUSED in run.log:
                    break
                self._point(run)  # which refuses what is not whole
                return (run.folder / "net.v").read_text(encoding="utf-8")
        raise SynthesisError(self.unfinished)

    def _know(self, folder: Path, booth: bool) -> None:
        kept = self._kept("front", booth)
        if kept.is_file():
            self.facts[booth] = _Facts.model_validate_json(kept.read_bytes())
            return
        self._front(folder, booth)

    def _front(self, folder: Path, booth: bool) -> Path | None:
        """Run a front end; None if it was not finished in time."""
        place = folder / f"front_{booth}"
        if (place / "front.il").is_file():
            return place / "front.il"
        place.mkdir(exist_ok=True)
        lines = asic_recipe.front(
            self.files,
            self.boxes,
            self.top,
            self.library,
            booth=booth,
            macro_bits=self.macro_bits,
        )
        for run in yosys.finished(
            [booth],
            lambda task: yosys.start(task, lines, folder=place, limit=self.limit),
            1,
        ):
            if run.late:
                raise SynthesisError(f"{self.top}: yosys did not read it in {self.limit:g} s")
            if not (place / "front.il").is_file():
                raise SynthesisError(f"{self.top}: {run.failure}")
        clocks = [
            line.partition("/")[2].strip() for line in (place / "clocks").read_text().splitlines()
        ]
        macro_bits = self._macro_bits(place / "memories.json")
        self.facts[booth] = _Facts(
            multiplies=_count(place / "multipliers.count") > 0,
            adds=_count(place / "adders.count") > 0,
            clocks=tuple(sorted(filter(None, clocks))),
            macro_bits=macro_bits,
            empty=bool(self.boxes or macro_bits or not _count(place / "outputs.count")),
        )
        write(self._kept("front", booth), self.facts[booth].model_dump_json())
        return place / "front.il"

    def _mapped(self, folder: Path, choices: list[Choice]) -> Iterator[yosys.Run[Choice]]:
        """Map: gates once an adder, then cells once a choice."""
        for booth in sorted({choice.booth for choice in choices}):
            self._front(folder, booth)
        gates: dict[tuple[bool, str], Path] = {}
        for run in yosys.finished(
            list(dict.fromkeys((choice.booth, choice.adder) for choice in choices)),
            lambda task: self._start_gates(folder, task),
            self.jobs,
        ):
            if run.late:
                continue
            if not (run.folder / "gates.il").is_file():
                raise SynthesisError(f"{self.top}: {run.failure}")
            gates[run.task] = run.folder / "gates.il"
        yield from yosys.finished(
            [choice for choice in choices if (choice.booth, choice.adder) in gates],
            lambda task: self._start_cells(folder, task, gates),
            self.jobs,
        )

    def _macro_bits(self, path: Path) -> int:
        modules = json.loads(path.read_text(encoding="utf-8"))["modules"]
        memories = [
            cell["parameters"]
            for module in modules.values()
            for cell in module["cells"].values()
            if cell["type"] == "$mem_v2"
        ]
        cut = [m for m in memories if asic_recipe.is_macro(m, self.macro_bits)]
        return sum(asic_recipe.memory_bits(memory) for memory in cut)

    def _start_gates(self, folder: Path, task: tuple[bool, str]) -> yosys.Run[tuple[bool, str]]:
        booth, adder = task
        place = folder / f"gates_{booth}_{adder}"
        place.mkdir()
        lines = asic_recipe.techmapped(folder / f"front_{booth}" / "front.il", adder)
        return yosys.start(task, lines, folder=place, limit=self.limit)

    def _start_cells(
        self, folder: Path, choice: Choice, gates: dict[tuple[bool, str], Path]
    ) -> yosys.Run[Choice]:
        place = Path(tempfile.mkdtemp(prefix="cells_", dir=folder))
        for name, text in asic_recipe.library_lines(self.library, choice).items():
            (place / name).write_text(text, encoding="utf-8")
        then: list[str] = []
        if self.timer.program:
            clocks = self.facts[choice.booth].clocks
            script = self.timer.script(self.top, clocks, self.library)
            (place / "time.tcl").write_text(script, encoding="utf-8")
            then = [self.timer.program, "-no_init", "-no_splash", "-exit", "time.tcl"]
        lines = asic_recipe.mapped(gates[choice.booth, choice.adder], self.library, choice)
        return yosys.start(choice, lines, folder=place, limit=self.limit, then=then)

    def _point(self, run: yosys.Run[Choice]) -> Point:
        try:
            statistics = json.loads((run.folder / "stat.json").read_text(encoding="utf-8"))
            module = statistics["modules"][f"\\{self.top}"]
        except (OSError, ValueError, KeyError):
            raise SynthesisError(f"{self.top}: {run.failure}") from None
        cells = {n: c for n, c in module.get("num_cells_by_type", {}).items() if n != "$scopeinfo"}
        ours = {name: count for name, count in cells.items() if name in self.library.cells}
        unmapped = sorted(cells.keys() - ours.keys())
        if unmapped:
            raise SynthesisError(
                f"{self.top}: {self.library.name} has no cell for {', '.join(unmapped)}"
            )
        if not self.facts[run.task.booth].empty and not ours:
            raise SynthesisError(f"{self.top}: no cell is left of it; is its logic in the files?")
        try:
            times = self.timer.times(run.log, list(ours), self.library)
        except ValueError as error:
            raise SynthesisError(f"{self.top}: {error}: {run.failure}") from None
        found = [time for time in (times.period, times.through) if time is not None]
        if ours and not found:
            raise SynthesisError(f"{self.top}: {self.timer.name} found no path")
        return Point(
            script=run.task.script,
            adder=run.task.adder,
            booth=run.task.booth,
            target_ps=run.task.target_ps,
            area_um2=round(float(module["area"] if ours else 0), 4),
            sequential_um2=round(float(module.get("sequential_area", 0)), 4),
            period_ns=found[0] if found else 0.0,
            through_ns=times.through,
            timer=self.timer.name,
            cells=dict(sorted(ours.items())),
        )


def _count(path: Path) -> int:
    """The number of objects that ``select -count`` wrote."""
    return int(path.read_text().split()[0])
