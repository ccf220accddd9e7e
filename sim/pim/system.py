# SPDX-License-Identifier: Apache-2.0
"""An NPU with memory that computes: how long a layer of a batch takes, and what bounds it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hw.pim.config import PimConfig
from hw.pim.timing import PimTiming
from sim.pim import events
from sim.pim.npu import Npu
from sim.pim.tiles import Tile, contention, gwrite_cost, refresh_gap, tile_cost
from sim.pim.workload import Decoder, loads, request_load

__all__ = ["DESIGNS", "Attention", "Design", "Layer", "attention", "layer_time"]

CHANNELS = 32
GPU_BANDWIDTH, GPU_FLOPS = 1555.0, 312e3
"""Of an A100 with 40 GB: GB/s, and operations in a ns. It cannot be measured here: a roofline."""


@dataclass(frozen=True)
class Design:
    """A way to run decoders.

    Attributes
    ----------
    name, text : of it.
    npu : beside the memory.
    channel : of the memory; None if it does not compute.
    composite : a command for a group of steps; else each step is one.
    front_end : commands a cycle for all channels together; 0: each channel has a sequencer.
    packed : requests go to the least loaded channel; else in turns.
    interleave : two halves of the batch in turns, one on the NPU while the other is in the memory:
        ``never``, ``paper`` (from 256 requests on), ``best`` (where the estimate is shorter).
    pack_values : short requests share rows of values.
    attention_bandwidth : bytes a cycle, if the memory does not compute.
    gpu : the roofline of a GPU instead.
    """

    name: str
    text: str
    npu: Npu = field(default_factory=Npu)
    channel: PimConfig | None = None
    composite: bool = True
    front_end: int = 0
    packed: bool = True
    interleave: Literal["never", "paper", "best"] = "never"
    pack_values: bool = False
    attention_bandwidth: float = 885.0
    gpu: bool = False


DUAL = PimConfig(fmt="bf16", share=4)
BLOCKED = PimConfig(fmt="bf16", dual=False)
BEST = PimConfig(fmt="bf16", share=4, prea=True, refresh="together")
TURNS = replace(BEST, share=12, buffers=2, entries=4)

DESIGNS = {
    d.name: d
    for d in (
        Design("gpu", "roofline of an A100", gpu=True),
        Design("npu-shipped", "NPU alone, attention at the published simulator's 136 bytes a cycle",
               attention_bandwidth=136.0),
        Design("npu", "NPU alone, attention at the bandwidth of the memory"),
        Design("pim-shipped", "one row buffer, one command a cycle for all channels",
               channel=BLOCKED, composite=False, front_end=1, packed=False),
        Design("pim", "one row buffer, a sequencer for each channel", channel=BLOCKED,
               composite=False, packed=False),
        Design("dual", "dual row buffers and composite commands", channel=DUAL, packed=False),
        Design("dual-packed", "... and requests packed into channels", channel=DUAL),
        Design("neupims", "... and sub-batches in turns from 256 requests on", channel=DUAL,
               interleave="paper"),
        Design("improved", "the same lanes, banks, buffers and bus: all-bank precharge, joint refresh, "
               "packed values, hidden preload, loads behind all tokens, sub-batches where they help",
               channel=BEST, interleave="best", pack_values=True,
               npu=Npu(overlap=True, hidden_preload=True)),
        Design("improved-2", "... and a second buffer for the multipliers, four pages of vectors",
               channel=TURNS, interleave="best", pack_values=True,
               npu=Npu(overlap=True, hidden_preload=True)),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Attention:
    """Attention of a layer in the memory.

    Attributes
    ----------
    cycles : until the last channel is done.
    channels : cycles of each channel.
    places : channel of each request.
    counts : GACT (of ``act_group`` banks), COMP, READRES, GWRITE, PIMPRE of all channels.
    bounds : cycles of the slowest channel by what they wait for.
    """

    cycles: float
    channels: NDArray[np.float64]
    places: NDArray[np.int64]
    counts: dict[str, float]
    bounds: dict[str, float]


@lru_cache(maxsize=1 << 14)
def _tile(c: PimConfig, tile: Tile, composite: bool) -> tuple[float, float, int, dict[str, float]]:
    """Cost, promise, commands and bounds of a tile."""
    steps = tile.count * c.group_cycles(tile.steps)
    groups = c.banks // c.act_group
    commands = 1 + groups + tile.count * (1 if composite else tile.steps + 1)
    if c.dual:
        commands += 1 if c.prea else c.banks
    cost = tile_cost(c, tile, composite)
    promise = c.estimate(1, steps, c.group_cycles(tile.steps))
    compute = min(cost, steps)
    window = c.timing.faw * (-(-c.banks_per_rank // c.act_group) - (0 if c.buffers == 2 else 1))
    opening = min(cost - compute, window) if c.buffers == 1 else max(0.0, cost - compute)
    closing = 0.0 if c.buffers == 2 else min(cost - compute - opening, 1 if c.prea else c.banks)
    rest = cost - compute - opening - closing
    bounds = {"compute": compute, "tFAW": opening, "precharge slots": closing, "tRP and tRCD": rest}
    return cost, promise, commands, bounds


def _request(design: Design, c: PimConfig, model: Decoder, length: int):
    """Sequences of a request: cost, promise, commands; counts and bounds."""
    found: list[tuple[float, float, int]] = []
    counts = dict.fromkeys(("GACT", "COMP", "READRES", "GWRITE", "PIMPRE"), 0.0)
    bounds: dict[str, float] = {}
    groups = c.banks // c.act_group
    for load in request_load(c, model, length, design.pack_values):
        cost, promise, commands, parts = _tile(c, load.tile, design.composite)
        copy = load.gwrites * gwrite_cost(c, design.composite)
        number = load.repeat * load.tiles
        per = 1
        if c.buffers == 2:  # several tiles are one sequence, as in sim.pim.driver.Tiles
            extra = c.tile_base + c.timing.ras + load.tile.count * c.group_cycles(load.tile.steps)
            per = int(max(1, min(load.tiles, c.slack // 2 // extra)))
        for _ in range(load.repeat):
            for i in range(0, load.tiles, per):
                n = min(per, load.tiles - i)
                begin = copy if i == 0 else 0.0
                more = load.gwrites if i == 0 else 0
                found.append((n * cost + begin, promise if n == 1 else n * promise, n * commands + more))  # fmt: skip
        counts["GACT"] += number * groups
        counts["COMP"] += number * load.tile.count * load.tile.steps
        counts["READRES"] += number * load.tile.count
        counts["GWRITE"] += load.repeat * load.gwrites
        counts["PIMPRE"] += number * (1 if c.prea else c.banks)
        for name, cycles in parts.items():
            bounds[name] = bounds.get(name, 0.0) + number * cycles
        bounds["GWRITE"] = bounds.get("GWRITE", 0.0) + load.repeat * copy
    return found, counts, bounds


def attention(
    design: Design, model: Decoder, lengths: Sequence[int] | NDArray, shared: bool = False
) -> Attention:
    """Attention of one layer on one device, all channels at work on their requests.

    Parameters
    ----------
    lengths : context of each request.
    shared : the NPU reads weights meanwhile; else nothing waits for its rows.
    """
    c = design.channel
    if c is None:
        raise ValueError(f"The memory of {design.name} does not compute")
    c = c if shared else replace(c, share=0)
    known = {int(n): _request(design, c, model, int(n)) for n in set(map(int, lengths))}
    weights = np.array([sum(s[0] for s in known[int(n)][0]) for n in lengths])
    place = loads(weights, CHANNELS, design.packed)
    first, sequences, counts = [0], [], dict[str, float]()
    per_channel: list[dict[str, float]] = []
    for channel in range(CHANNELS):
        bounds: dict[str, float] = {}
        for n in np.asarray(lengths)[place == channel]:
            mine, number, parts = known[int(n)]
            sequences += mine
            for name, value in number.items():
                counts[name] = counts.get(name, 0.0) + value
            for name, value in parts.items():
                bounds[name] = bounds.get(name, 0.0) + value
        first.append(len(sequences))
        per_channel.append(bounds)
    table = np.array(sequences, np.float64).reshape(-1, 3)
    gap, lost = refresh_gap(c, design.composite)
    start = np.array(first, np.int64)
    arrival = events.arrivals(start, table[:, 2].astype(np.int64), design.front_end)
    ends = events.channel_times(start, table[:, 0], table[:, 1], arrival, gap, lost)
    slowest = int(np.argmax(ends))
    bounds = per_channel[slowest]
    rest = float(ends[slowest]) - sum(bounds.values())
    bounds["command bus" if design.front_end else "refresh"] = rest
    return Attention(float(ends[slowest]), ends, place, counts, bounds)


@dataclass(frozen=True)
class Layer:
    """A layer of a batch on one device.

    Attributes
    ----------
    cycles : of the layer.
    npu, pim : cycles for which they work.
    interleaved : two halves of the batch in turns.
    stages : name and cycles.
    bounds : see :class:`Attention`; of the NPU: memory, the rest.
    counts : of the commands in the memory.
    """

    cycles: float
    npu: float
    pim: float
    interleaved: bool
    stages: dict[str, float]
    bounds: dict[str, float]
    counts: dict[str, float]


def layer_time(design: Design, model: Decoder, lengths: Sequence[int] | NDArray) -> Layer:
    """Cycles of one layer of a decoder for a batch of requests that each get one token."""
    lengths = np.asarray(lengths, np.int64)
    if design.gpu:
        return _gpu(model, lengths)
    batch, npu = len(lengths), design.npu
    first, behind = model.gemms()
    if design.channel is None:
        before, _ = npu.layer(first, batch, 0.25)
        after, memory = npu.layer(behind, batch, 0.75)
        size = 4 * int(lengths.sum()) * model.kv_heads * model.head_dim // model.tensor
        middle = size / design.attention_bandwidth
        total = before + middle + after
        return Layer(total, total, 0.0, False, {"qkv": before, "attention": middle, "ffn": after},
                     {"weights": memory, "keys and values": middle,
                  "weight preload": _preload(npu, model, batch)}, {"RD": size / 64})  # fmt: skip
    serial = _serial(design, model, lengths)
    if design.interleave == "never" or batch < 2 or (design.interleave == "paper" and batch < 256):
        return serial
    turns = _interleaved(design, model, lengths)
    return min(serial, turns, key=lambda x: x.cycles) if design.interleave == "best" else turns


def _serial(design: Design, model: Decoder, lengths: NDArray[np.int64]) -> Layer:
    first, behind = model.gemms()
    before, load = design.npu.layer(first, len(lengths), 0.25)
    after, more = design.npu.layer(behind, len(lengths), 0.75)
    middle = attention(design, model, lengths)
    total = before + middle.cycles + after
    return Layer(total, before + after, middle.cycles, False,
                 {"qkv": before, "attention": middle.cycles, "ffn": after},
                 middle.bounds | {"weights": load + more,
                                  "weight preload": _preload(design.npu, model, len(lengths))},
                 _with_reads(design, model, middle.counts, 1))  # fmt: skip


def _preload(npu: Npu, model: Decoder, tokens: int) -> float:
    """Cycles of a layer that would not be there if stationary operands loaded unseen."""
    first, behind = model.gemms()
    shown, _ = npu.layer([*first, *behind], tokens, 1.0)
    unseen, _ = replace(npu, hidden_preload=True).layer([*first, *behind], tokens, 1.0)
    return max(0.0, shown - unseen)


def _interleaved(design: Design, model: Decoder, lengths: NDArray[np.int64]) -> Layer:
    """Each half's products run while the other half is in the memory."""
    order = np.argsort(-lengths, kind="stable")
    halves = (lengths[order[0::2]], lengths[order[1::2]])
    first, behind = model.gemms()
    assert design.channel is not None
    slower, share = contention(design.channel, design.composite)
    stages, total, npu_total, pim_total = {}, 0.0, 0.0, 0.0
    bounds: dict[str, float] = {}
    counts: dict[str, float] = {}
    for name, computed, attended in (("c", *halves), ("d", *halves[::-1])):
        npu, load = design.npu.layer([*behind, *first], len(computed), 1.0)
        memory = attention(design, model, attended, shared=True)
        stages[name] = _together(npu, min(load, npu), memory.cycles, slower, share)
        total += stages[name]
        npu_total, pim_total = npu_total + npu, pim_total + memory.cycles
        preload = _preload(design.npu, model, len(computed))
        for key, value in [*memory.bounds.items(), ("weights", load), ("weight preload", preload)]:
            bounds[key] = bounds.get(key, 0.0) + value
        for key, value in memory.counts.items():
            counts[key] = counts.get(key, 0.0) + value
    return Layer(total, npu_total, pim_total, True, stages, bounds,
                 _with_reads(design, model, counts, 2))  # fmt: skip


def _together(npu: float, load: float, pim: float, slower: float, share: float) -> float:
    """Both at work from the same moment: loads run at ``share``, the multipliers ``slower``."""
    slow_npu, slow_pim = npu + load * (1 / share - 1), pim * slower
    if slow_npu <= slow_pim:
        return slow_npu + pim - slow_npu / slower
    return slow_pim + npu * (1 - slow_pim / slow_npu)


def _with_reads(design: Design, model: Decoder, counts: dict[str, float], times: int) -> dict[str, float]:  # fmt: skip
    size = sum(2 * k * n for part in model.gemms() for k, n in part)
    return counts | {"RD": times * size / 64}


def _gpu(model: Decoder, lengths: NDArray[np.int64]) -> Layer:
    """As many GPUs as devices; bandwidth or operations, whichever takes longer."""
    total, batch = 0.0, len(lengths)
    for part in model.gemms():
        for k, n in part:
            total += max(2 * k * n / GPU_BANDWIDTH, 2 * batch * k * n / GPU_FLOPS)
    size = 4 * int(lengths.sum()) * model.kv_heads * model.head_dim // model.tensor
    total += size / GPU_BANDWIDTH
    return Layer(total, total, 0.0, False, {"layer": total}, {}, {})


def energy(t: PimTiming, c: PimConfig | None, layer: Layer) -> dict[str, float]:
    """Energy of the memory in a layer, in nanojoules, from currents of an HBM data sheet.

    A COMP takes four times a read, GACT an activation of each of its banks, the background of a second
    row buffer a tenth more; these are the factors of the published power model.
    """
    vdd, idd0, idd2n, idd3n, idd4r, idd5 = 1.2, 65.0, 40.0, 55.0, 390.0, 250.0
    activate = vdd * (idd0 * t.rc - idd3n * t.ras - idd2n * (t.rc - t.ras)) * t.clock_ns
    read = vdd * (idd4r - idd3n) * t.burst * t.clock_ns
    refresh = vdd * (idd5 - idd3n) * t.rfc * t.clock_ns
    n = layer.counts
    banks = c.act_group if c is not None else 0
    ranks = c.ranks if c is not None else 2
    second = 1.1 if c is not None and c.dual else 1.0
    parts = {
        "read": n.get("RD", 0) * (read + activate / 16),
        "activate for PIM": n.get("GACT", 0) * banks * activate,
        "compute": n.get("COMP", 0) * 4 * read,
        "copy": n.get("GWRITE", 0) * 16 * read,
        "refresh": layer.cycles / t.refi * ranks * CHANNELS * refresh,
        "background": vdd * idd3n * layer.cycles * t.clock_ns * CHANNELS * second,
    }
    return {name: value / 1000 for name, value in parts.items()}


def with_sram(design: Design, sram_bytes: int) -> Design:
    """The same with another on-chip memory."""
    return replace(design, npu=replace(design.npu, sram_bytes=sram_bytes))
