# SPDX-License-Identifier: Apache-2.0
"""The report of a build: ``report.json`` for programs, ``report.html`` for people.

``docs/report.md`` describes every key. All cycles come from the cycle model (``schedules.cycles``);
this file adds what is ideal, compares, and draws. The page is made from the JSON alone, so that
``hwgen synth`` can replace the estimate of resources by what it counted and write both again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.memory_map import REGIONS
from designs.target import TargetCard
from designs.transformer import weight_shapes
from generators import resources
from generators.asic_build import AsicResult
from generators.blocks import Blocks
from generators.files import write
from generators.floorplan import floorplan
from generators.lower import program
from generators.machine import measure
from generators.place import PlacedResult
from generators.plan import Plan
from generators.report_facts import (
    VERSION,
    AccuracyFacts,
    BlockFacts,
    BufferFacts,
    BuildFacts,
    CalibrationFacts,
    EngineFacts,
    FileFacts,
    MemoryFacts,
    ModelFacts,
    Moment,
    PhaseFacts,
    PimFacts,
    PimRun,
    Point,
    ProgramFacts,
    Reads,
    Region,
    Report,
    ResourceFacts,
    TargetFacts,
    Timeline,
    Traffic,
)  # fmt: skip
from generators.report_page import render
from generators.synth import Resources, SynthesisResult, refresh_manifest
from generators.weights import Calibration
from hw.core.config import CoreConfig
from hw.core.program import step_layout
from schedules.cycles import Burst, Pass, bound, ideal, play
from schedules.roles import role
from schedules.schedule import Schedule

__all__ = [
    "apply_accuracy",
    "apply_asic",
    "apply_placed",
    "apply_run",
    "apply_synthesis",
    "load",
    "make_report",
    "predict_points",
    "six_digits",
    "write_report",
]

LENGTHS = (64, 128, 256, 512, 1024)
"""Prompts and contexts that every report has, as far as the model's context allows."""

_FEW = 6
"""Layers that are played one by one in a prompt."""

_BINS = 160
"""Parts of a timeline in which reads are counted."""

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
    "synth-ecp5.json": "utilisation and clock as nextpnr placed and routed it",
    "ecp5/design.bit": "bitstream",
    "sim/run.py": "testbench that runs by itself",
}


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
    folder : holds the other files of the build, ``schedule.yaml`` and ``design.json`` among them.
    card, board, planned : what is built.
    seconds : that the build took so far.
    calibration : of the weights; None if there are none.
    """
    schedule = Schedule.from_yaml((folder / "schedule.yaml").read_text(encoding="utf-8"))
    design = json.loads((folder / "design.json").read_text(encoding="utf-8"))
    report = make_report(
        card,
        board,
        planned,
        schedule,
        _files(folder),
        blocks=Blocks.model_validate(design["blocks"]),
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
    blocks: Blocks | None = None,
    seconds: float = 0.0,
    calibration: Calibration | None = None,
) -> Report:
    """Everything that a report says.

    Parameters
    ----------
    card, board, planned : what is built.
    schedule : what it plays.
    files : what the build consists of.
    blocks : of the accelerator; None if it was not emitted.
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
    estimated = _estimated(c, board)
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
            reduce=c.reduce,
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
        pim=_pim(board, c, schedule),
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
        resources=estimated,
        blocks=blocks,
        floorplan=None if blocks is None else floorplan(board, estimated.blocks, blocks, c.lanes),
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
    """A pass as played: cycles of all; of each phase first start and end, and sum over its runs; its reads.

    The reads are those of a port while the section that repeats runs for the first time.
    """

    cycles: int
    phases: dict[str, tuple[int, int, int]]
    reads: tuple[Burst, ...]


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
        self._inside = [x for x in schedule.phases if x.section == self._section.name]
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
        own = sum(phase.macs for phase in phases if self._on_engine(phase.name))
        compute = -(-own // self.lanes)
        memory = -int(-needed // self.bytes_per_cycle)
        return Point(
            tokens=tokens,
            context=passes[-1].past + passes[-1].tokens,
            passes=len(passes),
            cycles=cycles,
            seconds=six_digits(cycles / self._hertz),
            tokens_per_second=six_digits(tokens * self._hertz / cycles),
            macs=macs,
            traffic=traffic,
            needed_bytes=needed,
            compute_cycles=compute,
            memory_cycles=memory,
            bound="compute" if compute >= memory else "memory",
            roofline_fraction=six_digits(max(compute, memory) / cycles),
            lanes_busy=six_digits(own / self.lanes / cycles),
            bandwidth_used=six_digits(traffic.total / self.bytes_per_cycle / cycles),
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
                lanes_busy=six_digits(macs / self._products(phase.id) / total),
                bandwidth_used=six_digits(read / self.bytes_per_cycle / total),
            )

    def _on_engine(self, phase: str) -> bool:
        """Whether the engine multiplies in a phase, not the banks of PIM channels."""
        kind = role(self._schedule, self._schedule.phase(phase)).kind
        return self._machine.pim is None or kind != "attention"

    def _products(self, phase: str) -> int:
        """Multiplications a cycle that a phase could have."""
        pim = self._machine.pim
        return self.lanes if self._on_engine(phase) or pim is None else pim.products

    def timeline(self, name: str, tokens: int, past: int) -> Timeline:
        """The first run of the section that repeats most."""
        p = Pass(tokens, past, True)
        played = self._played(p)
        times = played.phases
        begin, end = self._first_run(times)
        moments = []
        for phase in self._inside:
            start, stop, _ = times[phase.id]
            length = max(stop - start, 1)
            least = ideal(self._schedule, self._machine, phase, p)
            moments.append(
                Moment(
                    phase=phase.id,
                    start=start - begin,
                    end=stop - begin,
                    bound=bound(least, length),  # type: ignore[arg-type]
                    lanes_busy=six_digits(least.macs / self._products(phase.id) / length),
                    bandwidth_used=six_digits(least.bytes / self.bytes_per_cycle / length),
                )
            )
        return Timeline(
            name=name,
            section=self._section.name,
            tokens=tokens,
            past=past,
            cycles=end - begin,
            phases=tuple(moments),
            reads=self._reads(played.reads, begin, end),
        )

    def _first_run(self, phases: Mapping[str, tuple[int, int, int]]) -> tuple[int, int]:
        """The cycles in which the section that repeats runs for the first time."""
        inside = [phases[x.id] for x in self._inside]
        return min(start for start, _, _ in inside), max(end for _, end, _ in inside)

    def _reads(self, bursts: Sequence[Burst], begin: int, end: int) -> Reads:
        """Bursts of a port, which stands for all of them, by who asked for them."""
        edges = np.linspace(begin, end, _BINS + 1)
        granted = self.bytes_per_cycle / self._config.ports * (edges[1] - edges[0])

        def share(clients: str) -> tuple[float, ...]:
            mine = [b for b in bursts if b.client in clients]
            if not mine:
                return (0.0,) * _BINS
            times = np.array([[b.first, b.end] for b in mine]).ravel()
            steps = np.array([[0, b.words] for b in mine]).ravel()
            words = np.diff(np.interp(edges, times, np.cumsum(steps)))
            parts = words * self._config.port_bytes / granted
            return tuple(round(float(part), 4) for part in parts)

        return Reads(
            bin_cycles=six_digits(float(edges[1] - edges[0])),
            weights=share("w"),
            keys_values=share("kv"),
            embeddings=share("e"),
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
        cycles = one.cycles + (repeat - 1) * (second.cycles - first.cycles)
        return _Played(cycles, phases, one.reads)

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
            begin, end = (timed.start + cycle for cycle in self._first_run(phases))
            reads = tuple(
                replace(b, first=b.first - timed.start, end=b.end - timed.start)
                for b in run.bursts
                if begin < b.end and b.first < end
            )
            self._known[p, repeat] = _Played(timed.cycles, phases, reads)
        return self._known[p, repeat]

    def _traffic(self, passes: Sequence[Pass]) -> Traffic:
        """What goes over the ports, padding included."""
        c = self._config
        weights = keys_values = embeddings = written = 0
        for p in passes:
            weights += self.weight_stream(p.answer)
            words = -(-(p.past + p.tokens) // c.lanes) * c.head_words
            keys_values += 0 if c.pim else c.layers * 2 * c.kv_heads * words * c.beat_bytes
            stripes = (
                c.row_stripes + c.position_stripes + (p.tokens > 1)
            )  # a generated token is at hand
            embeddings += p.tokens * stripes * c.stripe_bytes
            rows = (
                c.layers * 2 * c.kv_heads * c.head_words * p.tokens
            )  # each in whole words of a port
            written += 0 if c.pim else rows * max(c.lanes, c.port_bytes)
            written += c.port_bytes if p.answer else 0
        total = weights + keys_values + embeddings + written
        tokens = sum(p.tokens for p in passes)
        return Traffic(
            weights=weights,
            keys_values=keys_values,
            embeddings=embeddings,
            written=written,
            total=total,
            per_token=six_digits(total / tokens),
        )

    def weight_stream(self, answer: bool) -> int:
        """Bytes of the weight stream of a pass."""
        c = self._config
        return (c.stream_stripes(c.layers) + (c.head_stripes if answer else 0)) * c.stripe_bytes

    def _needed(self, p: Pass) -> int:
        """Bytes that a pass cannot do without: no padding, only the keys and values there are."""
        c = self._config
        read, written = p.past + p.tokens, p.tokens
        cached = 0 if c.pim else 2 * c.kv_heads * c.head_size * c.layers * (read + written)
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
        bytes_per_cycle=six_digits(speed.bytes_per_cycle),
        weight_format=planned.compression.formats(),
        weight_bytes=needed_weight_bytes(c, True),
        weight_stream_bytes=speed.weight_stream(True),
        kv_bytes=c.cache.bytes if c.pim else 2 * c.layers * c.kv_layer_stripes * c.stripe_bytes,
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


def _pim(board: TargetCard, c: CoreConfig, schedule: Schedule) -> PimFacts | None:
    if c.pim is None or board.pim is None:
        return None
    s, p = c.cache, c.pim
    cores = {core.id for core in schedule.template.cores if core.mem}
    return PimFacts(
        channels=s.channels,
        banks=p.banks,
        ranks=p.ranks,
        page_bytes=p.page_bytes,
        products=p.lanes * p.banks * s.channels,
        timing=p.timing.name,
        tasks=tuple(name for x in schedule.phases for name, on in x.run if cores & set(on)),
        heads=s.heads_here,
        layer_rows=s.layer_rows,
        bytes=s.bytes,
        available_bytes=board.pim.rows * p.banks * p.page_bytes * s.channels,
    )


def apply_run(folder: Path, run: PimRun) -> None:
    """Put what a simulation counted into the report of a build with PIM channels.

    Raises
    ------
    DesignError
        If the build has no valid report, or no PIM channels.
    """
    report = load(folder)
    if report.pim is None:
        raise DesignError(f"{folder} has no PIM channels")
    _write(
        folder, report.model_copy(update={"pim": report.pim.model_copy(update={"measured": run})})
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
        parts = [m for m in result.modules if block.owns(m.name)]
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
    counted = {"resources": facts, "files": _files(folder)}
    if report.blocks is not None:
        outputs = report.engine.outputs
        counted["floorplan"] = floorplan(board, facts.blocks, report.blocks, outputs)
    _update(folder, counted)


def apply_asic(folder: Path, result: AsicResult) -> None:
    """Put what a build takes in standard cells into its report.

    Raises
    ------
    DesignError
        If the folder has no report that this version reads.
    """
    _update(folder, {"asic": result, "files": _files(folder)})


def apply_accuracy(folder: Path, facts: AccuracyFacts) -> None:
    """Put what a build's integers cost against the float model into its report.

    Raises
    ------
    DesignError
        If the folder has no report that this version reads.
    """
    _update(folder, {"accuracy": facts})


def apply_placed(folder: Path, result: PlacedResult) -> None:
    """Put what a build takes on its part, placed and routed, into its report.

    Raises
    ------
    DesignError
        If the folder has no report that this version reads.
    """
    _update(folder, {"placed": result, "files": _files(folder)})


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


def _update(folder: Path, facts: Mapping[str, object]) -> None:
    """Replace some facts of a build's report; the build is still unchanged, as its manifest says."""
    _write(folder, load(folder).model_copy(update=facts))
    refresh_manifest(folder, ["report.json", "report.html"])


def _write(folder: Path, report: Report) -> None:
    """Write both files, each whole or not at all."""
    texts = {"report.json": report.model_dump_json(indent=2) + "\n", "report.html": render(report)}
    for name, text in texts.items():
        write(folder / name, text)


def six_digits(value: float) -> float:
    """Six significant digits: enough, and the same on every machine."""
    return float(f"{value:.6g}")
