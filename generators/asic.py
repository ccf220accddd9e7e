"""Area and period of a design in standard cells, mapped in many ways, of which the best count."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from designs.cache import cache_folder, digest
from designs.progress import Progress, SilentProgress
from generators import asic_recipe, timing, yosys
from generators.asic_recipe import ADDERS, SCRIPTS, Choice
from generators.files import write
from generators.liberty import Liberty
from generators.timing import Timer, find_timer
from generators.yosys import SynthesisError

__all__ = ["Measurement", "Point", "best", "measure", "pareto"]


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
        without such paths the same as `through_ns`
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
    def choice(self) -> Choice:
        """The way in which it was mapped."""
        return Choice(self.script, self.adder, self.booth, self.target_ps)


def pareto(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return the points that no other is better than in both period and area, the fastest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.period_ns, p.area_um2)):
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
    unfinished : choices that took longer than allowed
    """

    top: str
    library: str
    points: tuple[Point, ...]
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
    jobs : processes at a time
    limit : seconds for one of them
    timer : what measures time; OpenSTA if it is there, else ABC
    progress : is told how many of the choices are done

    Raises
    ------
    SynthesisError
        If yosys is missing, cannot read the design, leaves anything unmapped or nothing at all, or
        did not finish one choice.
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
        raise SynthesisError(f"{top}: not finished in {limit:g} s with any script")
    return Measurement(
        top=top,
        library=f"{library.name} ({library.conditions})",
        points=tuple(points[choice] for choice in work.sensible(asked) if choice in points),
        unfinished=tuple(choice for choice in work.sensible(asked) if choice not in points),
    )


class _Facts(_Value):
    """What a front end found: whether there is something to multiply and to add, and the clocks."""

    multiplies: bool
    adds: bool
    clocks: tuple[str, ...]


@dataclass
class _Work:
    """One design under measurement; the members are the parameters of `measure`."""

    files: list[Path]
    boxes: list[Path]
    top: str
    library: Liberty
    timer: Timer
    jobs: int
    limit: float
    progress: Progress

    def __post_init__(self) -> None:
        texts = [path.read_bytes() for path in (*self.files, *self.boxes)]
        recipe = b"".join(Path(part.__file__).read_bytes() for part in (asic_recipe, timing))
        count = f"{len(self.files)} {self.top}"
        self.design = digest(yosys.version(), recipe, self.library.digest, count, *texts)
        self.facts: dict[bool, _Facts] = {}

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
            points: dict[Choice, Point] = {}
            for choice in choices:
                kept = self._kept(choice, self.timer)
                if kept.is_file():
                    points[choice] = Point.model_validate_json(kept.read_bytes())
            missing = [choice for choice in choices if choice not in points]
            if missing:
                self._run(folder, missing, points, len(choices))
        return points

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
        lines = asic_recipe.front(self.files, self.boxes, self.top, self.library, booth=booth)
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
        self.facts[booth] = _Facts(
            multiplies=_count(place / "multipliers.count") > 0,
            adds=_count(place / "adders.count") > 0,
            clocks=tuple(sorted(filter(None, clocks))),
        )
        write(self._kept("front", booth), self.facts[booth].model_dump_json())
        return place / "front.il"

    def _run(
        self, folder: Path, missing: list[Choice], points: dict[Choice, Point], total: int
    ) -> None:
        """Map what is missing: gates once an adder, then cells once a choice."""
        for booth in sorted({choice.booth for choice in missing}):
            self._front(folder, booth)
        gates = {(choice.booth, choice.adder): Path() for choice in missing}
        for run in yosys.finished(
            list(gates), lambda task: self._start_gates(folder, task), self.jobs
        ):
            if run.late:
                continue
            if not (run.folder / "gates.il").is_file():
                raise SynthesisError(f"{self.top}: {run.failure}")
            gates[run.task] = run.folder / "gates.il"
        ready = [c for c in missing if gates[c.booth, c.adder] != Path()]
        for run in yosys.finished(
            ready, lambda task: self._start_cells(folder, task, gates), self.jobs
        ):
            if not run.late:
                point = self._point(run)
                write(self._kept(run.task, self.timer), point.model_dump_json())
                points[run.task] = point
            self.progress.advance(len(points), total, f"{len(points)} of {total} mappings")

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
        unmapped = sorted(name for name in cells if name.startswith("$"))
        if unmapped:
            raise SynthesisError(
                f"{self.top}: {self.library.name} has no cell for {', '.join(unmapped)}"
            )
        if not ours or not module.get("area"):
            raise SynthesisError(f"{self.top}: no cell is left of it; is its logic in the files?")
        try:
            times = self.timer.times(run.log, list(ours), self.library)
        except ValueError as error:
            raise SynthesisError(f"{self.top}: {error}: {run.failure}") from None
        period = times.period if times.period is not None else times.through
        if period is None:
            raise SynthesisError(f"{self.top}: {self.timer.name} found no path")
        return Point(
            script=run.task.script,
            adder=run.task.adder,
            booth=run.task.booth,
            target_ps=run.task.target_ps,
            area_um2=round(float(module["area"]), 4),
            sequential_um2=round(float(module.get("sequential_area", 0)), 4),
            period_ns=period,
            through_ns=times.through,
            timer=self.timer.name,
            cells=dict(sorted(ours.items())),
        )


def _count(path: Path) -> int:
    """The number of objects that ``select -count`` wrote."""
    return int(path.read_text().split()[0])
