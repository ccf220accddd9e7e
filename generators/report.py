"""The report of a build: ``report.json`` for programs, ``report.html`` for people.

``docs/report.md`` describes every key. All cycles come from the cycle model (``schedules.cycles``);
this file adds what is ideal, compares, and draws. The page is made from the JSON alone, so that
``hwgen synth`` can replace the estimate of resources by what it counted and write both again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jinja2
from pydantic import BaseModel, ConfigDict

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.memory_map import REGIONS
from designs.target import TargetCard
from designs.transformer import weight_shapes
from generators import charts, resources
from generators.asic_build import AsicResult
from generators.files import write
from generators.lower import program
from generators.machine import measure
from generators.plan import Plan
from generators.synth import Resources, SynthesisResult
from generators.weights import Calibration
from hw.core.config import CoreConfig
from hw.core.program import step_layout
from schedules.cycles import Pass, bound, ideal, play
from schedules.schedule import Schedule

__all__ = [
    "VERSION",
    "Point",
    "Report",
    "apply_asic",
    "apply_synthesis",
    "load",
    "make_report",
    "predict_points",
    "render",
    "write_report",
]

VERSION = 1
"""Of report.json: larger when a key changes its meaning or goes; new keys do not count."""

LENGTHS = (64, 128, 256, 512, 1024)
"""Prompts and contexts that every report has, as far as the model's context allows."""

_FEW = 6
"""Layers that are played one by one in a prompt."""

_CONTENTS = {
    "report.json": "this report for programs",
    "design.json": "parameters, memory map, registers, modules",
    "hwgen_registers.h": "the register map for programs in C",
    "schedule.yaml": "what the hardware plays",
    "weights.bin": "memory image of the weights",
    "quantised.npz": "quantised model that the golden model runs",
    "tokenizer.json": "tokenizer of the checkpoint: how prompts are read",
    "synth.json": "resources counted by yosys, by module",
    "synth-asic.json": "standard cells by yosys, by module",
    "sim/run.py": "testbench that runs by itself",
}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFacts(_Value):
    """The network."""

    name: str
    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    context: int
    parameters: int


class TargetFacts(_Value):
    """The part on its board, as its card says."""

    name: str
    description: str
    part: str | None
    family: str
    memory: str
    memory_ports: int
    gigabytes_per_second: float
    unverified: tuple[str, ...]


class EngineFacts(_Value):
    """The array of multipliers."""

    name: str
    array: str
    pe: str
    tokens: int
    reduce: int
    outputs: int


class PhaseFacts(_Value):
    """All runs of one phase in a point."""

    name: str
    runs: int
    cycles: int
    macs: int
    bytes: int
    bound: Literal["compute", "memory", "latency"]
    lanes_busy: float
    bandwidth_used: float


class Traffic(_Value):
    """Bytes over the memory ports."""

    weights: int
    keys_values: int
    embeddings: int
    written: int
    total: int
    per_token: float


class Point(_Value):
    """A prompt, or one token of decoding."""

    tokens: int
    context: int
    passes: int
    cycles: int
    seconds: float
    tokens_per_second: float
    macs: int
    traffic: Traffic
    needed_bytes: int
    compute_cycles: int
    memory_cycles: int
    bound: Literal["compute", "memory"]
    roofline_fraction: float
    lanes_busy: float
    bandwidth_used: float
    phases: tuple[PhaseFacts, ...]


class Moment(_Value):
    """The first run of a phase, in cycles since its section began."""

    phase: str
    start: int
    end: int
    bound: Literal["compute", "memory", "latency"]
    lanes_busy: float
    bandwidth_used: float


class Timeline(_Value):
    """One run of the section that repeats (a layer), in one pass."""

    name: str
    section: str
    tokens: int
    past: int
    cycles: int
    phases: tuple[Moment, ...]


class Region(_Value):
    """A part of the external memory."""

    name: str
    first_stripe: int
    stripes: int
    bytes: int


class MemoryFacts(_Value):
    """The external memory and what lies in it."""

    ports: int
    port_bytes: int
    stripe_bytes: int
    bytes_per_cycle: float
    weight_format: str
    weight_bytes: int
    weight_stream_bytes: int
    kv_bytes: int
    kv_bytes_per_token: int
    image_bytes: int
    total_bytes: int
    available_bytes: int
    regions: tuple[Region, ...]


class BufferFacts(_Value):
    """Memory on the chip."""

    name: str
    banks: int
    depth: int
    width: int
    bytes: int
    kind: str
    blocks: float


class BlockFacts(_Value):
    """A part of the design and what it takes."""

    name: str
    basis: Literal["estimate", "yosys"]
    modules: tuple[str, ...]
    used: Resources


class ResourceFacts(_Value):
    """What the design takes of its target."""

    basis: Literal["estimate", "yosys", "yosys and estimate"]
    tool: str
    used: dict[str, int]
    available: dict[str, int]
    fits: bool
    reasons: tuple[str, ...]
    blocks: tuple[BlockFacts, ...]


class ProgramFacts(_Value):
    """The program in the core's memory: one for every prompt and context, whose lengths are registers."""

    steps: int
    bits_per_step: int
    bytes: int
    lengths: int


class CalibrationFacts(_Value):
    """What the activations of the weights were calibrated on."""

    source: str
    tokens: int


class FileFacts(_Value):
    """A file of the build."""

    path: str
    what: str


class BuildFacts(_Value):
    """What differs from one build of the same input to the next: the only such key."""

    seconds: float


class Report(_Value):
    """``report.json``; see ``docs/report.md``."""

    version: int
    model: ModelFacts
    target: TargetFacts
    engine: EngineFacts
    lanes: int
    clock_mhz: float
    chunk: int
    limits: tuple[str, ...]
    program: ProgramFacts
    calibration: CalibrationFacts | None = None
    prefill: tuple[Point, ...]
    decode: tuple[Point, ...]
    timelines: tuple[Timeline, ...]
    memory: MemoryFacts
    buffers: tuple[BufferFacts, ...]
    resources: ResourceFacts
    asic: AsicResult | None = None
    files: tuple[FileFacts, ...]
    build: BuildFacts


def write_report(
    folder: Path,
    card: ModelCard,
    board: TargetCard,
    planned: Plan,
    *,
    seconds: float,
    calibration: Calibration | None = None,
) -> None:
    """Write ``report.json`` and ``report.html`` into a build.

    Parameters
    ----------
    folder : holds the other files of the build, ``schedule.yaml`` among them.
    card, board, planned : what is built.
    seconds : that the build took so far.
    calibration : of the weights; None if there are none.
    """
    schedule = Schedule.from_yaml((folder / "schedule.yaml").read_text(encoding="utf-8"))
    report = make_report(
        card,
        board,
        planned,
        schedule,
        _files(folder),
        seconds=seconds,
        calibration=calibration,
    )
    _write(folder, report)


def make_report(
    card: ModelCard,
    board: TargetCard,
    planned: Plan,
    schedule: Schedule,
    files: Sequence[FileFacts] = (),
    *,
    seconds: float = 0.0,
    calibration: Calibration | None = None,
) -> Report:
    """Everything that a report says.

    Parameters
    ----------
    card, board, planned : what is built.
    schedule : what it plays.
    files : what the build consists of.
    seconds : that the build took.
    calibration : of the weights; None if there are none.
    """
    c = planned.config
    speed = _Speed(c, board, schedule)
    lengths = [n for n in LENGTHS if n <= c.context]
    small = max((n for n in (8, 16, 32, 64) if n <= c.context), default=c.context)
    while len(lengths) < len(LENGTHS) and (not lengths or lengths[0] > 8):
        lengths.insert(0, lengths[0] // 2 if lengths else small)
    longest = min(c.chunk, c.context)
    return Report(
        version=VERSION,
        model=ModelFacts(
            **card.model_dump(include=set(ModelFacts.model_fields)), parameters=_parameters(card)
        ),
        target=TargetFacts(
            **board.model_dump(include={"name", "description", "part", "family", "unverified"}),
            memory=board.memory.kind,
            memory_ports=board.memory.ports,
            gigabytes_per_second=round(board.granted_gbps, 3),
        ),
        engine=EngineFacts(
            name=c.engine_name,
            array=c.array,
            pe=c.pe,
            tokens=c.tokens,
            reduce=c.lanes,
            outputs=c.lanes,
        ),
        lanes=speed.lanes,
        clock_mhz=board.clock_mhz,
        chunk=c.chunk,
        limits=planned.limits,
        program=_program(c, schedule),
        calibration=None if calibration is None else CalibrationFacts(**calibration.to_dict()),
        prefill=tuple(speed.prompt(n) for n in lengths),
        decode=tuple(speed.token(n) for n in lengths),
        timelines=(
            speed.timeline("prefill", longest, 0),
            speed.timeline("decode", 1, c.context - 1),
        ),
        memory=_memory(board, planned, speed),
        buffers=tuple(
            BufferFacts(
                name=b.name,
                banks=b.banks,
                depth=b.depth,
                width=b.width,
                bytes=-(-b.bits // 8),
                kind=b.kind,
                blocks=b.resources.bram + b.resources.uram,
            )
            for b in resources.buffers(c, board)
        ),
        resources=_estimated(c, board),
        files=tuple(files),
        build=BuildFacts(seconds=round(seconds, 2)),
    )


def _program(config: CoreConfig, schedule: Schedule) -> ProgramFacts:
    steps, bits = len(program(schedule, config).steps), step_layout(config).size
    return ProgramFacts(
        steps=steps, bits_per_step=bits, bytes=-(-steps * bits // 8), lengths=config.context
    )


def _parameters(card: ModelCard) -> int:
    total = 0
    for shape in weight_shapes(card).values():
        size = 1
        for n in shape:
            size *= n
        total += size
    return total


@dataclass(frozen=True)
class _Played:
    """A pass as played: cycles of all; of each phase first start and end, and sum over its runs."""

    cycles: int
    phases: dict[str, tuple[int, int, int]]


def predict_points(
    config: CoreConfig,
    board: TargetCard,
    schedule: Schedule,
    *,
    prompts: Sequence[int],
    contexts: Sequence[int],
) -> tuple[list[Point], list[Point]]:
    """Points for prompts of some lengths, and for one token at some contexts."""
    speed = _Speed(config, board, schedule)
    return [speed.prompt(n) for n in prompts], [speed.token(n) for n in contexts]


class _Speed:
    """Predictions of the cycle model beside what is ideal."""

    def __init__(self, config: CoreConfig, board: TargetCard, schedule: Schedule) -> None:
        self._config, self._schedule = config, schedule
        self._machine = measure(config, board)
        self._hertz = board.clock_mhz * 1e6
        self._runs = {s.name: s.repeat for s in schedule.sections}
        self._section = max(schedule.sections, key=lambda s: s.repeat)
        self._known: dict[tuple[Pass, int | None], _Played] = {}
        self.lanes = self._machine.multipliers
        self.bytes_per_cycle = float(self._machine.bytes_per_cycle)

    def prompt(self, tokens: int) -> Point:
        """A prompt from an empty cache to its first answer."""
        chunk = self._config.chunk
        starts = range(0, tokens, chunk)
        return self._point(
            [Pass(min(chunk, tokens - past), past, past + chunk >= tokens) for past in starts]
        )

    def token(self, context: int) -> Point:
        """One token that sees ``context`` tokens, itself included."""
        return self._point([Pass(1, context - 1, True)])

    def _point(self, passes: Sequence[Pass]) -> Point:
        cycles = sum(self._played(p).cycles for p in passes)
        phases = tuple(self._phases(passes))
        macs = sum(phase.macs for phase in phases)
        needed = sum(self._needed(p) for p in passes)
        tokens = sum(p.tokens for p in passes)
        traffic = self._traffic(passes)
        compute = -(-macs // self.lanes)
        memory = -int(-needed // self.bytes_per_cycle)
        return Point(
            tokens=tokens,
            context=passes[-1].past + passes[-1].tokens,
            passes=len(passes),
            cycles=cycles,
            seconds=_round(cycles / self._hertz),
            tokens_per_second=_round(tokens * self._hertz / cycles),
            macs=macs,
            traffic=traffic,
            needed_bytes=needed,
            compute_cycles=compute,
            memory_cycles=memory,
            bound="compute" if compute >= memory else "memory",
            roofline_fraction=_round(max(compute, memory) / cycles),
            lanes_busy=_round(macs / self.lanes / cycles),
            bandwidth_used=_round(traffic.total / self.bytes_per_cycle / cycles),
            phases=phases,
        )

    def _phases(self, passes: Sequence[Pass]) -> Iterator[PhaseFacts]:
        for phase in self._schedule.phases:
            where = [p for p in passes if phase.id in self._played(p).phases]
            if not where:
                continue
            runs = self._runs[phase.section]
            cycles = [self._played(p).phases[phase.id][2] for p in where]
            least = [ideal(self._schedule, self._machine, phase, p) for p in where]
            longest = cycles.index(max(cycles))
            total = max(sum(cycles), 1)
            macs, read = (
                runs * sum(n) for n in zip(*((x.macs, x.bytes) for x in least), strict=True)
            )
            yield PhaseFacts(
                name=phase.id,
                runs=runs * len(where),
                cycles=sum(cycles),
                macs=macs,
                bytes=read,
                bound=bound(least[longest], cycles[longest] / runs),  # type: ignore[arg-type]
                lanes_busy=_round(macs / self.lanes / total),
                bandwidth_used=_round(read / self.bytes_per_cycle / total),
            )

    def timeline(self, name: str, tokens: int, past: int) -> Timeline:
        """The first run of the section that repeats most."""
        p = Pass(tokens, past, True)
        inside = [x for x in self._schedule.phases if x.section == self._section.name]
        times = self._played(p).phases
        begin = min(times[x.id][0] for x in inside)
        moments = []
        for phase in inside:
            start, end, _ = times[phase.id]
            length = max(end - start, 1)
            least = ideal(self._schedule, self._machine, phase, p)
            moments.append(
                Moment(
                    phase=phase.id,
                    start=start - begin,
                    end=end - begin,
                    bound=bound(least, length),  # type: ignore[arg-type]
                    lanes_busy=_round(least.macs / self.lanes / length),
                    bandwidth_used=_round(least.bytes / self.bytes_per_cycle / length),
                )
            )
        return Timeline(
            name=name,
            section=self._section.name,
            tokens=tokens,
            past=past,
            cycles=max(m.end for m in moments),
            phases=tuple(moments),
        )

    def _played(self, p: Pass) -> _Played:
        """A pass with all layers; of many in a prompt the second counts for the rest."""
        repeat = self._section.repeat
        if p.tokens == 1 or repeat <= _FEW:
            return self._play(p, None)
        one, silent = self._play(p, 1), replace(p, answer=False)
        first, second = self._play(silent, 1), self._play(silent, 2)
        phases = dict(one.phases)
        for name, (_, _, cycles) in second.phases.items():
            start, end, before = one.phases[name]
            phases[name] = (start, end, before + (repeat - 1) * (cycles - first.phases[name][2]))
        return _Played(one.cycles + (repeat - 1) * (second.cycles - first.cycles), phases)

    def _play(self, p: Pass, repeat: int | None) -> _Played:
        """A pass with some layers: a prompt's from a cold start, a token's behind another one."""
        if (p, repeat) not in self._known:
            warm = p.tokens == 1 and p.past > 0
            run = play(
                self._schedule,
                self._machine,
                prompt=p.tokens,
                generate=2 if warm else int(p.answer),
                position=p.past - warm,
                repeat=repeat,
            )
            timed = run.passes[-1]
            phases = {
                name: (start - timed.start, end - timed.start, count.cycles)
                for name, start, end, count in timed.phases
            }
            self._known[p, repeat] = _Played(timed.cycles, phases)
        return self._known[p, repeat]

    def _traffic(self, passes: Sequence[Pass]) -> Traffic:
        """What goes over the ports, padding included."""
        c = self._config
        weights = keys_values = embeddings = written = 0
        for p in passes:
            weights += self.weight_stream(p.answer)
            words = -(-(p.past + p.tokens) // c.lanes) * c.head_words
            keys_values += c.layers * 2 * c.kv_heads * words * c.beat_bytes
            stripes = (
                c.row_stripes + c.position_stripes + (p.tokens > 1)
            )  # a generated token is at hand
            embeddings += p.tokens * stripes * c.stripe_bytes
            rows = (
                c.layers * 2 * c.kv_heads * c.head_words * p.tokens
            )  # each in whole words of a port
            written += rows * max(c.lanes, c.port_bytes) + (c.port_bytes if p.answer else 0)
        total = weights + keys_values + embeddings + written
        tokens = sum(p.tokens for p in passes)
        return Traffic(
            weights=weights,
            keys_values=keys_values,
            embeddings=embeddings,
            written=written,
            total=total,
            per_token=_round(total / tokens),
        )

    def weight_stream(self, answer: bool) -> int:
        """Bytes of the weight stream of a pass."""
        c = self._config
        return (c.stream_stripes(c.layers) + (c.head_stripes if answer else 0)) * c.stripe_bytes

    def _needed(self, p: Pass) -> int:
        """Bytes that a pass cannot do without: no padding, only the keys and values there are."""
        c = self._config
        read, written = p.past + p.tokens, p.tokens
        cached = 2 * c.kv_heads * c.head_size * c.layers * (read + written)
        row = 2 * (c.width + (c.head_size if c.rotary else c.width))  # of a token, of its position
        return needed_weight_bytes(c, p.answer) + cached + row * p.tokens


def needed_weight_bytes(c: CoreConfig, answer: bool) -> int:
    """Weights as they are stored, and 8 bytes for each output channel, and the parameters of norms."""

    def stored(name: str, k: int, n: int, layer: int = 0) -> int:
        words = c.words(name, layer, k // c.lanes)
        weights = words * c.lanes * n * c.terms(name, layer)
        return -(-weights * c.stream.beat_bytes // c.stream.row_bytes)

    sizes = dict.fromkeys(("k", "v"), (c.width, c.width // c.shared))
    sizes |= dict.fromkeys(("q", "proj"), (c.width, c.width))
    sizes |= {"fc1": (c.width, (1 + c.gated) * c.ffn), "fc2": (c.ffn, c.width)}
    layers = sum(stored(name, *size, i) for i in range(c.layers) for name, size in sizes.items())
    layers += c.layers * (8 * sum(n for _, n in sizes.values()) + 2 * c.norm_bytes * c.width)
    head = stored("lm_head", c.width, c.vocabulary) + 8 * c.vocabulary + c.norm_bytes * c.width
    return layers + (head if answer else 0)


def _memory(board: TargetCard, planned: Plan, speed: _Speed) -> MemoryFacts:
    c, m = planned.config, planned.memory
    sizes = {name: end - first for name in REGIONS for first, end in [m.region(name)]}
    return MemoryFacts(
        ports=m.ports,
        port_bytes=m.port_bytes,
        stripe_bytes=m.stripe_bytes,
        bytes_per_cycle=_round(speed.bytes_per_cycle),
        weight_format=planned.compression.formats(),
        weight_bytes=needed_weight_bytes(c, True),
        weight_stream_bytes=speed.weight_stream(True),
        kv_bytes=2 * c.layers * c.kv_layer_stripes * c.stripe_bytes,
        kv_bytes_per_token=2 * c.layers * c.width,
        image_bytes=m.image_bytes,
        total_bytes=m.total_bytes,
        available_bytes=m.ports * board.memory.bytes_per_port,
        regions=tuple(
            Region(
                name=name,
                first_stripe=m.region(name)[0],
                stripes=size,
                bytes=size * m.stripe_bytes,
            )
            for name, size in sizes.items()
        ),
    )


def _estimated(config: CoreConfig, board: TargetCard) -> ResourceFacts:
    blocks = tuple(
        BlockFacts(name=b.name, basis="estimate", modules=b.modules, used=_tidy(b.resources))
        for b in resources.estimate(config, board)
    )
    return _summed(blocks, board, "formulas of hwgen")


def _summed(blocks: tuple[BlockFacts, ...], board: TargetCard, tool: str) -> ResourceFacts:
    used = sum((b.used for b in blocks), Resources())
    counted, guessed = (any(b.basis == basis for b in blocks) for basis in ("yosys", "estimate"))
    reasons = resources.excess(used, board)
    return ResourceFacts(
        basis="yosys and estimate" if counted and guessed else "yosys" if counted else "estimate",
        tool=tool,
        used=used.rounded(),
        available=resources.available(board).rounded(),
        fits=not reasons,
        reasons=reasons,
        blocks=blocks,
    )


def _tidy(used: Resources) -> Resources:
    """Whole numbers but for halves of block memories."""
    return Resources(**{kind: -(-getattr(used, kind) * 2 // 1) / 2 for kind in resources.KINDS})


def apply_synthesis(folder: Path, result: SynthesisResult) -> None:
    """Put what yosys counted into a build's report, in the place of the estimate.

    A block of which yosys did not finish every module keeps its estimate, and says so.

    Raises
    ------
    DesignError
        If the folder has no report that this version reads.
    """
    from designs import target

    report = load(folder)
    board = target.load(result.target)
    blocks, owned = [], set()
    for block in report.resources.blocks:
        mine = resources.Block(block.name, block.used, block.modules)
        parts = [m for m in result.modules if mine.owns(m.name)]
        owned |= {m.name for m in parts}
        if parts and all(m.basis == "yosys" for m in parts):
            counted = sum((m.resources * m.count for m in parts), Resources())
            block = block.model_copy(update={"basis": "yosys", "used": _tidy(counted)})
        blocks.append(block)
    rest = [m for m in result.modules if m.name not in owned and m.basis == "yosys"]
    if rest:
        counted = sum((m.resources * m.count for m in rest), Resources())
        names = tuple(m.name for m in rest)
        blocks.append(BlockFacts(name="other", basis="yosys", modules=names, used=_tidy(counted)))
    facts = _summed(tuple(blocks), board, result.tool)
    _write(folder, report.model_copy(update={"resources": facts, "files": _files(folder)}))


def apply_asic(folder: Path, result: AsicResult) -> None:
    """Put what a build takes in standard cells into its report.

    Raises
    ------
    DesignError
        If the folder has no report that this version reads.
    """
    report = load(folder)
    _write(folder, report.model_copy(update={"asic": result, "files": _files(folder)}))


def load(folder: Path) -> Report:
    """The report of a build.

    Raises
    ------
    DesignError
        If there is none, or it is of another version.
    """
    path = folder / "report.json"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise DesignError(
            f"{folder} has no report.json: give a folder that hwgen build wrote"
        ) from None
    try:
        report = Report.model_validate_json(text)
    except ValueError:
        raise DesignError(f"{path} is not a report of version {VERSION}: build it again") from None
    if report.version != VERSION:
        raise DesignError(f"{path} has version {report.version}, not {VERSION}: build it again")
    return report


def _files(folder: Path) -> tuple[FileFacts, ...]:
    """What a reader may want to open; every module of the RTL is one of them."""
    named = [FileFacts(path=path, what=what) for path, what in _CONTENTS.items()]
    there = [f for f in named if f.path == "report.json" or (folder / f.path).is_file()]
    rtl = folder / "rtl"
    modules = sorted(p.name for p in rtl.iterdir()) if rtl.is_dir() else []
    return (*there, *(FileFacts(path=f"rtl/{name}", what="module") for name in modules))


def _write(folder: Path, report: Report) -> None:
    """Write both files, each whole or not at all."""
    texts = {"report.json": report.model_dump_json(indent=2) + "\n", "report.html": render(report)}
    for name, text in texts.items():
        write(folder / name, text)


def _round(value: float) -> float:
    """Six significant digits: enough, and the same on every machine."""
    return float(f"{value:.6g}")


# The page.


def render(report: Report) -> str:
    """The report as one page of HTML that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(("j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    formats: Mapping[str, Callable[..., str]] = {
        "whole": lambda value: f"{value:,.0f}",
        "percent": lambda value: f"{100 * value:.1f} %",
        "size": _size,
        "duration": _duration,
        "rate": lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
    }
    environment.filters.update(formats)
    return environment.get_template("report.html.j2").render(
        r=report,
        roofline=_roofline(report),
        gantts=[(t, _gantt(t)) for t in report.timelines],
        shares=[_shares(report, p) for p in _shown(report)],
        meters=_meters(report.resources),
        regions=_regions(report),
        best=report.decode[-1],
        prompt=_shown(report)[0],
    )


def _shown(report: Report) -> tuple[Point, Point]:
    """A prompt that fills one pass, and a token at the longest context."""
    full = [p for p in report.prefill if p.passes == 1]
    return (full or report.prefill)[-1], report.decode[-1]


def _roofline(report: Report) -> str:
    hertz = report.clock_mhz * 1e6
    dots = [
        charts.Dot(
            x=p.macs / p.needed_bytes,
            y=p.macs * hertz / p.cycles,
            label=str(p.tokens if css == "prefill" else p.context),
            css=css,
            title=f"{name}: {100 * p.roofline_fraction:.1f} % of the roofline, {p.cycles:,} cycles",
        )
        for css, points in (("prefill", report.prefill), ("decode", report.decode))
        for p in points
        for name in [
            f"prompt of {p.tokens}" if css == "prefill" else f"one token at context {p.context}"
        ]
    ]
    peak, slope = report.lanes * hertz, report.memory.bytes_per_cycle * hertz
    return charts.roofline(dots, peak=peak, slope=slope, unit="MAC")


def _meters(facts: ResourceFacts) -> str:
    bars = [
        charts.Bar(kind.upper(), facts.used[kind], facts.available[kind])
        for kind in resources.KINDS
    ]
    return charts.meters([bar for bar in bars if bar.used or bar.available])


def _gantt(timeline: Timeline) -> str:
    return charts.gantt(
        [
            charts.Span(
                label=m.phase,
                start=m.start,
                end=m.end,
                css=m.bound,
                upper=m.lanes_busy,
                lower=m.bandwidth_used,
                note=f"{m.end - m.start:,}  {m.bound}",
                title=(
                    f"{m.phase}: cycles {m.start:,} to {m.end:,}; "
                    f"lanes {100 * m.lanes_busy:.1f} % busy, "
                    f"memory {100 * m.bandwidth_used:.1f} %; bound by {m.bound}"
                ),
            )
            for m in timeline.phases
        ],
        unit="cycles",
    )


def _shares(report: Report, point: Point) -> dict[str, object]:
    """The phases of a point and the part of its cycles that each takes."""
    one = point.tokens == 1
    return {
        "title": f"one token at context {point.context}" if one else f"prompt of {point.tokens}",
        "rows": [(phase, phase.cycles / point.cycles) for phase in point.phases],
        "point": point,
    }


_REGIONS = {
    "tokens": "token ids in and out",
    "weights": "weight stream of the layers",
    "head": "final norm and language-model head",
    "wte": "token embeddings",
    "wpe": "position embeddings, or the angles of positions",
    "k": "keys",
    "v": "values",
}


def _regions(report: Report) -> dict[str, object]:
    regions = report.memory.regions
    return {
        "chart": charts.stack(
            [
                charts.Part(r.name, r.bytes, f"c{k}", f"{r.name}: {_size(r.bytes)}")
                for k, r in enumerate(regions)
            ]
        ),
        "rows": [(r, f"c{k}", _REGIONS.get(r.name, "")) for k, r in enumerate(regions)],
    }


def _size(value: float) -> str:
    """Bytes with a binary prefix."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.2f} GiB"


def _duration(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    return ""
