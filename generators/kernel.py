# SPDX-License-Identifier: Apache-2.0
"""From a task-graph card to what is scheduled: cores with a share of the lanes each, and the modes of every task.

Durations come from the engines themselves (:meth:`hw.arrays.Engine.interval` and ``latency``), never from a table.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from amaranth.hdl import UnusedElaboratable

from designs import catalogue
from designs.errors import DesignError
from designs.graph import BYTES, GraphCard, MachineCard, Product
from generators import manifest
from generators.charts import Span, alone, gantt
from generators.files import check_out, new_folder, write
from hw.arrays import Engine, accumulator_bits, make_engine
from schedules.errors import ScheduleError
from schedules.optimal.check import check_plan
from schedules.optimal.instance import Edge, Instance, Load, Mode, Port, Store, Task, Unit
from schedules.optimal.plan import Plan
from schedules.optimal.solve import EFFORT, Effort, improve, solve
from schedules.text import flow, parse, plain, restore

__all__ = [
    "POLICIES", "SFU_LATENCY", "KernelPlan", "asked", "core_sizes", "engine_of", "instance_of", "picture",
    "plan_lines", "read_plan", "schedule", "write_files", "write_plan",
]  # fmt: skip

POLICIES = ("optimal", "sequential", "dataflow", "dataflow-sized", "equal-cores")
"""``sequential``: one core with all lanes. ``dataflow``: a core for every product, all alike; ``dataflow-sized``: with
lanes as the products' work. ``equal-cores``: as many as the authors' design has. ``optimal``: the best of these."""

MEMORY = "mem"
SFU = "sfu"
SFU_LATENCY = 16
"""Cycles of a special function unit from a row's last element to its first result, about those of a reciprocal."""
MOST_GROUPED = 4
"""Cores up to which every group of them may share a task; of more, each alone or all."""

MOST_BLOCKS = 1 << 20
"""Of rows or pixels that one product may have: each is counted."""


def core_sizes(card: GraphCard, policy: str) -> tuple[int, ...]:
    """Granules of the lanes that each core has.

    Raises
    ------
    DesignError
        If there are more products than granules.
    """
    machine, work = card.machine, [p.macs for t in card.order if (p := card.product(t))]
    if policy == "sequential" or not work:
        return (machine.granules,)
    if policy == "equal-cores":
        return (machine.granules // machine.cores,) * machine.cores
    if len(work) > machine.granules:
        raise DesignError(
            f"{card.name}: a core for each of its {len(work)} products needs at least {len(work)} {machine.grow}, "
            f"the machine has {machine.granules}"
        )
    sizes = [1] * len(work)
    if policy == "dataflow":
        return (machine.granules // len(work),) * len(work)
    for _ in range(machine.granules - len(work)):  # each next granule to the slowest
        slowest = max(range(len(work)), key=lambda k: work[k] / sizes[k])
        sizes[slowest] += 1
    return tuple(sizes)


@dataclass(frozen=True)
class KernelPlan:
    """A plan with the machine that it is for.

    Parameters
    ----------
    kernel : name of the card.
    cores : granules of each core.
    pinned : product number i runs on core i only.
    plan : the decisions.
    """

    kernel: str
    cores: tuple[int, ...]
    pinned: bool
    plan: Plan

    def instance(self, card: GraphCard) -> Instance:
        """What the plan answers."""
        return instance_of(card, self.cores, pinned=self.pinned)

    def to_yaml(self) -> str:
        """One line for each decision; always the same text."""
        lines = [f"{key}: {flow(value)}" for key, value in plain(self).items() if key != "plan"]
        return "\n".join([*lines, *plan_lines(self.plan)]) + "\n"


def plan_lines(plan: Plan) -> list[str]:
    """A plan in YAML, a line for each decision."""
    lines = ["plan:"]
    for key, value in plain(plan).items():
        if isinstance(value, list) and value:
            lines += [f"  {key}:", *(f"  - {flow(row)}" for row in value)]
        else:
            lines.append(f"  {key}: {flow(value)}")
    return lines


def read_plan(text: str, card: GraphCard) -> KernelPlan:
    """The plan that :meth:`KernelPlan.to_yaml` wrote, checked against the card.

    Raises
    ------
    DesignError
        If it is none, is of another kernel, or breaks a rule: which one.
    """
    with asked():
        found: KernelPlan = restore(KernelPlan, parse(text), "Plan")
        if found.kernel != card.name:
            raise DesignError(f"The plan is of {found.kernel}, not of {card.name}")
        machine = card.machine
        if not found.cores or min(found.cores) < 1 or sum(found.cores) > machine.granules:
            raise DesignError(
                f"Plan: cores must have 1 to {machine.granules} {machine.grow} together, not {list(found.cores)}"
            )
        check_plan(found.instance(card), found.plan)
    return found


@contextmanager
def asked() -> Iterator[None]:
    """What does not fit, or is edited wrongly, is a mistake in what was asked for."""
    try:
        yield
    except ScheduleError as error:
        raise DesignError(str(error)) from error


def schedule(card: GraphCard, policy: str, effort: Effort = EFFORT) -> KernelPlan:
    """The best plan on the machine of a policy; of ``optimal``, on the best machine.

    Raises
    ------
    DesignError
        For an unknown policy, not enough lanes, or if nothing fits.
    """
    if policy not in POLICIES:
        raise DesignError(catalogue.unknown("policy", policy, list(POLICIES)))
    with asked():
        return _best(card, effort) if policy == "optimal" else _only(card, policy, effort)


def _only(card: GraphCard, policy: str, effort: Effort) -> KernelPlan:
    """The best plan on one machine."""
    sizes, pinned = core_sizes(card, policy), policy.startswith("dataflow")
    instance = instance_of(card, sizes, pinned=pinned)
    return KernelPlan(card.name, sizes, pinned, solve(instance, effort, policy=policy))


def _best(card: GraphCard, effort: Effort) -> KernelPlan:
    """The best plan on any of the machines."""
    machines: dict[tuple[int, ...], None] = {}
    for other in POLICIES[1:]:
        try:
            machines[core_sizes(card, other)] = None
        except DesignError:
            continue
    # The largest cores first: a good plan early cuts the search for the others short.
    cores, *others = sorted(machines, key=len)
    best = solve(instance_of(card, cores), effort, policy="optimal")
    bounds, proven = [best.bound], best.proven
    for sizes in others:
        plan, bound = improve(instance_of(card, sizes), best, effort)
        if bound is not None:
            bounds.append(bound)
        if plan is not None:
            cores, best = sizes, plan
        proven &= plan.proven if plan is not None else bound is None
    best = replace(best, bound=min(*bounds, best.makespan), proven=proven)
    return KernelPlan(card.name, cores, False, best)


def picture(instance: Instance, plan: Plan) -> str:
    """The plan as a Gantt chart (SVG): above, the part of a task's time in which its lanes work; below, its port's."""
    spans = []
    for run in sorted(plan.runs, key=lambda r: (r.start, r.end)):
        mode, time = plan.mode(instance, run.task), run.end - run.start
        port = sum(
            instance.port(x.port).cycles(x.bytes) for x in (*mode.loads, *mode.stores)
        )  # fmt: skip
        special = not any(instance.unit(name).spad_bytes for name in mode.units)
        css = "latency" if special else "compute"
        title = f"{run.task}: {mode.name}, {run.start:,} to {run.end:,}"
        note = f"{'+'.join(mode.units)}, {time:,}"
        spans.append(
            Span(run.task, run.start, run.end, css, mode.cycles / time, port / time, note, title)
        )
    return alone(gantt(spans, unit="cycles"))


def write_plan(card: GraphCard, kernel: KernelPlan, out: Path) -> None:
    """Write ``plan.yaml`` and ``gantt.svg`` into a folder that is new or ours.

    Raises
    ------
    DesignError
        If the folder holds something else.
    """
    made_from = {"graph": card.model_dump(mode="json"), "policy": kernel.plan.policy}
    write_files(out, kernel.to_yaml(), picture(kernel.instance(card), kernel.plan), made_from)


def write_files(out: Path, text: str, svg: str, made_from: Mapping[str, Any]) -> None:
    """Write ``plan.yaml`` and ``gantt.svg`` into a folder that is new or ours.

    Raises
    ------
    DesignError
        If the folder holds something else.
    """
    check_out(out)
    with new_folder(out) as folder:
        write(folder / "plan.yaml", text)
        write(folder / "gantt.svg", svg)
        manifest.write(folder, manifest.fingerprint(dict(made_from), {}))


def instance_of(card: GraphCard, sizes: Sequence[int], *, pinned: bool = False) -> Instance:
    """Units, ports, tasks and edges of a card on cores of ``sizes`` granules.

    Parameters
    ----------
    pinned : product number i runs on core i only
    """
    with warnings.catch_warnings():  # engines that are only asked
        warnings.simplefilter("ignore", UnusedElaboratable)
        return _Kernel(card, tuple(sizes), pinned).instance()


@cache
def engine_of(array: str, tokens: int, reduce: int, outputs: int, bits: int, k: int) -> Engine:
    width = max(32, accumulator_bits(-(-k // reduce) * reduce, bits, bits))
    return make_engine(
        array,
        tokens=tokens,
        reduce=reduce,
        outputs=outputs,
        x_bits=bits,
        w_bits=bits,
        acc_bits=width,
    )


@dataclass(frozen=True)
class _Times:
    """Cycles of a product: of a tile of each block of rows (or pixels), tiles of a block, the engine's latency, and how
    many rows (pixels) a block has."""

    blocks: tuple[int, ...]
    tiles: int
    latency: int
    width: int


@dataclass(frozen=True)
class _Kernel:
    card: GraphCard
    sizes: tuple[int, ...]
    pinned: bool

    @property
    def machine(self) -> MachineCard:
        return self.card.machine

    @property
    def element(self) -> int:
        return BYTES[self.card.dtype]

    def instance(self) -> Instance:
        card, machine = self.card, self.machine
        units = [
            Unit(f"c{n}", self._spad(size), machine.bank_bytes) for n, size in enumerate(self.sizes)
        ]
        tasks, number = [self._input(name) for name in card.inputs], 0
        for name in card.order:
            product = card.product(name)
            if product is None:
                tasks.append(Task(name, (self._special(name),)))
            else:
                groups = [(number,)] if self.pinned else self._groups()
                tasks.append(Task(name, self._modes(name, product, groups)))
                number += 1
        edges = [self._edge(tensor, task) for task in card.order for tensor in dict.fromkeys(
            card.tasks[task].inputs) if tensor not in card.weights]  # fmt: skip
        return Instance(
            card.name,
            (*units, Unit(SFU), *(Unit(f"dma-{name}") for name in card.inputs)),
            (Port(MEMORY, machine.bytes_per_cycle, machine.latency),),
            tuple(tasks), tuple(edges), machine.reconf_cycles,
        )  # fmt: skip

    def _groups(self) -> list[tuple[int, ...]]:
        cores = range(len(self.sizes))
        counts = cores if len(cores) <= MOST_GROUPED else (0, len(cores) - 1)
        return [group for count in counts for group in combinations(cores, count + 1)]

    def _input(self, name: str) -> Task:
        """An input comes from memory, row by row."""
        size = self.card.bytes(name)
        cycles = -(-size // self.machine.bytes_per_cycle)
        grain = -(-self._grain(name) // self.machine.bytes_per_cycle)
        load = Load(MEMORY, size)
        return Task(
            name,
            (
                Mode(
                    "read",
                    (f"dma-{name}",),
                    cycles,
                    min(grain, cycles),
                    loads=(load,),
                    makes="rows",
                ),
            ),
        )

    def _grain(self, tensor: str) -> int:
        """Bytes of a row of a matrix, or of an image over all its channels."""
        shape = self.card.shape(tensor)
        return self.card.bytes(tensor) // shape[-2] if len(shape) > 1 else self.element

    def _edge(self, tensor: str, to: str) -> Edge:
        task = self.card.tasks[to]
        whole = task.op in ("matmul", "matmul_t") and tensor != task.inputs[0]
        places = ("onchip", "offchip") if whole else ("stream", "onchip", "offchip")
        if tensor in self.card.inputs:  # it is there already
            places = places[:-1]
        return Edge(
            tensor, tensor, to, self.card.bytes(tensor), self._grain(tensor), 2, places, MEMORY
        )

    def _stores(self, name: str, free: int) -> tuple[Store, ...]:
        """Of a result that leaves: held until it is written, if so many bytes are free, else written as it comes."""
        if name not in self.card.outputs:
            return ()
        size = self.card.bytes(name)
        return (Store(MEMORY, size, size if size <= free else 0),)

    def _special(self, name: str) -> Mode:
        """Row by row through the special function unit; softmax sees a row before it answers."""
        shape = self.card.shape(name)
        lanes, columns = self.machine.sfu_lanes, shape[-1]
        words = -(-columns // lanes)
        rows = self.card.bytes(name) // self.element // columns
        if "maxpool2" in self.card.tasks[name].then:  # more is taken than made
            rows, words = self._taken(name, lanes)
        cycles = rows * words + SFU_LATENCY
        first = (
            (words if self.card.tasks[name].op in ("softmax", "layernorm") else 0)
            + SFU_LATENCY
            + words
        )
        given = [t for t in self.card.tasks[name].inputs if t in self.card.weights]
        piece = lanes * self.element
        loads = tuple(
            Load(MEMORY, size, min(piece, size), SFU_LATENCY + 1)
            for size in map(self.card.bytes, given)
        )
        return Mode(
            name, (SFU,), cycles, min(first, cycles), min(first, cycles), loads, self._stores(name, 0),
            takes="rows", makes="rows",
        )  # fmt: skip

    def _taken(self, name: str, lanes: int) -> tuple[int, int]:
        """Rows of the first input, and words of each."""
        shape = self.card.shape(self.card.tasks[name].inputs[0])
        return math.prod(shape[:-1]), -(-shape[-1] // lanes)

    def _modes(
        self, name: str, product: Product, groups: Sequence[tuple[int, ...]]
    ) -> tuple[Mode, ...]:
        modes = []
        for group in groups:
            units = tuple(f"c{n}" for n in group)
            label = "+".join(units)
            for order, made in (("rows", self._by_rows), ("columns", self._by_columns)):
                modes += [m for m in made(name, product, f"{label} {order}", units, group) if m]
        return tuple(modes)

    def _shape(self, group: tuple[int, ...]) -> tuple[int, int, int]:
        """Tokens, reduction and outputs of cores that work side by side."""
        machine, size = self.machine, sum(self.sizes[n] for n in group)
        tokens = size if machine.grow == "tokens" else machine.tokens
        outputs = size if machine.grow == "outputs" else machine.outputs
        return tokens, machine.reduce, outputs

    def _times(self, product: Product, group: tuple[int, ...]) -> _Times:
        tokens, reduce, outputs = self._shape(group)
        blocks = -(-product.n // outputs) if product.row else -(-product.m // tokens)
        if blocks > MOST_BLOCKS:
            raise DesignError(
                f"{self.card.name}: a product of {product.m} x {product.k} x {product.n} takes {blocks:,} blocks of "
                f"{outputs if product.row else tokens}, at most {MOST_BLOCKS:,} can be scheduled; give it more lanes"
            )
        engine = engine_of(self.machine.array, tokens, reduce, outputs, 8 * self.element, product.k)
        whole, rest = divmod(product.m, tokens)
        rows = [engine.interval(product.k, tokens)] * whole
        if rest:
            rows.append(engine.interval(product.k, rest))
        if product.row:  # pixels come one after the other, and every one meets all output channels
            return _Times((sum(rows),) * blocks, 1, engine.latency, outputs)
        return _Times(tuple(rows), -(-product.n // outputs), engine.latency, tokens)

    def _room(self, group: tuple[int, ...]) -> int:
        """Bytes of a group's scratchpads that a load may take: equal parts of all, so the smallest counts."""
        return self._spad(min(self.sizes[n] for n in group)) * len(group)

    def _free(self, group: tuple[int, ...], load: int) -> int:
        """Bytes of a group's scratchpads beside a load of so many bytes, which takes whole banks of each."""
        bank, smallest = self.machine.bank_bytes, self._spad(min(self.sizes[n] for n in group))
        taken = -(-load // len(group) // bank) * bank
        return (smallest - taken) * len(group)

    def _spad(self, size: int) -> int:
        """Scratchpad of a core of ``size`` granules: its share, in whole banks."""
        share, bank = self.machine.spad_bytes // sum(self.sizes), self.machine.bank_bytes
        return share * size // bank * bank

    def _weights(self, name: str, product: Product) -> int:
        """Bytes that come from memory to be stationary; 0 if another task makes them."""
        task = self.card.tasks[name]
        if task.kernel is not None:
            return product.k * product.m * self.element
        return product.k * product.n * self.element if task.inputs[1] in self.card.weights else 0

    def _by_rows(
        self,
        name: str,
        product: Product,
        label: str,
        units: tuple[str, ...],
        group: tuple[int, ...],
    ) -> list[Mode]:
        """All outputs of a block of rows, then the next block: takes and makes a stream; weights stay or come again."""
        times = self._times(product, group)
        blocks, tiles, latency = times.blocks, times.tiles, times.latency
        rows = [t * tiles for t in blocks]
        cycles = sum(rows) + latency
        line = product.row or 1
        need = -(-self._needed(name) * line // times.width)
        first = sum(rows[:need]) + latency
        last = sum(rows[-max(1, -(-product.tail * line // times.width)) :]) + latency
        weights = self._weights(name, product)
        loads: list[tuple[str, tuple[Load, ...]]] = [(label, ())]
        if weights:
            tile = -(-weights // tiles)
            loads = []
            if weights <= self._room(group):
                keep = Load(MEMORY, weights, tile, sum(rows[1:]) + blocks[0] + latency, weights)
                loads.append((f"{label}, weights kept", (keep,)))
            if not product.row and len(blocks) > 1 and 2 * tile <= self._room(group):
                again = Load(
                    MEMORY, weights * len(blocks), tile, blocks[-1] + latency,
                    min(2 * tile, weights * len(blocks) - 1),
                )  # fmt: skip
                loads.append((f"{label}, weights again", (again,)))
        return [
            Mode(
                text, units, cycles, min(first, cycles), min(last, cycles), load,
                self._stores(name, self._free(group, sum(x.room for x in load))),
                takes="rows", makes="rows",
            )
            for text, load in loads
        ]  # fmt: skip

    def _by_columns(
        self,
        name: str,
        product: Product,
        label: str,
        units: tuple[str, ...],
        group: tuple[int, ...],
    ) -> list[Mode]:
        """All rows of a tile of outputs, then the next tile: each weight comes once, and two tiles of them are held."""
        times = self._times(product, group)
        weights, tiles = self._weights(name, product), times.tiles
        if tiles == 1 or not weights:
            return []
        column = sum(times.blocks)
        cycles = column * tiles + times.latency
        tile = -(-weights // tiles)
        if 2 * tile > self._room(group):
            return []
        load = Load(MEMORY, weights, tile, column + times.latency, min(2 * tile, weights - 1))
        return [
            Mode(
                label, units, cycles, column + times.latency, cycles, (load,),
                self._stores(name, self._free(group, load.room)), makes="columns",
            )
        ]  # fmt: skip

    def _needed(self, name: str) -> int:
        """Rows of a task's own result (of images: before it is scaled) that its readers need to begin."""
        reach = 1
        for task in self.card.tasks:
            product = self.card.product(task)
            if name in self.card.tasks[task].inputs and product is not None:
                reach = max(reach, product.reach)
        for step in self.card.tasks[name].then:
            reach = (
                -(-reach // 2)
                if step == "upsample2"
                else reach * 2
                if step == "maxpool2"
                else reach
            )
        return reach
