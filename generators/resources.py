# SPDX-License-Identifier: Apache-2.0
"""What a design will take of its target, estimated block by block before anything is synthesised.

Memories follow the shapes of the target's blocks (UG573: block RAM, URAM; UG574: distributed
memory; Lattice FPGA-TN-02204). Logic is counted from the registers and operators of each unit, and
was checked against what yosys finds for units of 8 lanes: within about a quarter. ``hwgen synth``
(`generators.synth`) counts the real modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from designs.target import TargetCard
from generators.synth import Resources
from hw.core.config import CoreConfig
from hw.core.feeder import header_buffers, tile_layout
from hw.memory.port import SHALLOW
from hw.pim.cache import BURST_BYTES, RESULTS
from hw.unit import Unit

__all__ = [
    "KINDS",
    "Block",
    "Buffer",
    "available",
    "buffers",
    "estimate",
    "excess",
    "memory",
    "owned",
    "total",
]

KINDS = ("lut", "ff", "dsp", "bram", "uram")
"""The kinds of resources, as `generators.synth.Resources` names them."""

MemoryKind = Literal["distributed", "bram", "uram"]

_HALF_BLOCKS = {36: 512, 18: 1024, 9: 2048, 4: 4096, 2: 8192, 1: 16384}
"""Width and depth of 18 Kb of block memory: half a block on AMD parts, a block on ECP5."""

_URAM = (72, 4096)

_LUT_BITS: dict[str, dict[int, float]] = {
    # Bits of a simple dual-port memory of this depth in one LUT.
    "xcup": {32: 14 / 8, 64: 7 / 8},  # RAM32M16, RAM64M8
    "xcu": {32: 14 / 8, 64: 7 / 8},
    "xc7": {32: 6 / 4, 64: 3 / 4},  # RAM32M, RAM64M
    "ecp5": {16: 4 / 6},  # TRELLIS_DPR16X4
}

_PIM_BANK = Resources(lut=182, ff=81)
"""Timers and controller of a channel, for each of its banks (by yosys, 32 banks)."""

_LUT4 = 1.5
"""LUTs of four inputs in the place of one of six."""

_NARROW = {"drain": 2, "layer norm": 6}
"""Multipliers of 18 x 18 bits that a lane takes more than slices, as yosys maps them: some products take two or more,
and small ones that slices leave to LUTs go there too."""


@dataclass(frozen=True)
class Buffer:
    """Memory on the chip.

    Attributes
    ----------
    name : what it holds
    block : the block of `estimate` that it belongs to
    banks, depth, width : memories side by side, words of each, bits of a word
    kind : what it is made of
    resources : what it takes
    """

    name: str
    block: str
    banks: int
    depth: int
    width: int
    kind: MemoryKind
    resources: Resources

    @property
    def bits(self) -> int:
        """Bits that it holds."""
        return self.banks * self.depth * self.width


def owned(names: tuple[str, ...], module: str) -> bool:
    """Whether a Verilog module is one of these, or one whose name begins so (up to an underscore)."""
    return any(module == name or module.startswith(f"{name}_") for name in names)


@dataclass(frozen=True)
class Block:
    """A part of the design and what it takes.

    Attributes
    ----------
    name : as in ``docs/architecture.md``
    resources : estimated
    modules : names of its Verilog modules, or what they begin with (up to an underscore)
    """

    name: str
    resources: Resources
    modules: tuple[str, ...]

    def owns(self, module: str) -> bool:
        """Whether a Verilog module is part of this block."""
        return owned(self.modules, module)


def available(target: TargetCard) -> Resources:
    """What a target leaves for a design beside the board's shell."""
    return Resources(
        lut=target.lut_usable,
        ff=target.ff,
        dsp=target.dsp_usable,
        bram=target.bram.usable,
        uram=target.uram.usable,
    )


def total(blocks: tuple[Block, ...]) -> Resources:
    """What all blocks take together."""
    return sum((block.resources for block in blocks), Resources())


def excess(used: Resources, target: TargetCard) -> tuple[str, ...]:
    """One sentence for each kind of which there is not enough: what exceeds what, by how much."""
    have, need = available(target).rounded(), used.rounded()
    return tuple(
        f"{kind.upper()}: {need[kind]} needed, {target.name} leaves {have[kind]} "
        f"({need[kind] - have[kind]} too many)"
        for kind in KINDS
        if need[kind] > have[kind]
    )


def memory(
    width: int,
    depth: int,
    target: TargetCard,
    style: MemoryKind | None = None,
    *,
    registered: bool = True,
) -> tuple[MemoryKind, Resources]:
    """What a memory with one write and one read port is made of on a target, and what it takes.

    Parameters
    ----------
    width, depth : bits of a word, words.
    target : the part.
    style : what the RTL asks for; if None, distributed memory while it is shallow, else the
        block that wastes fewer bits.
    registered : whether a word comes a cycle after it was asked for; block memory always does so.
    """
    lut_bits = _LUT_BITS[target.family]
    shallow = depth <= max(lut_bits)
    if style == "distributed" or (style is None and shallow):
        step = next((step for step in lut_bits if depth <= step), max(lut_bits))
        rows = -(-depth // step)
        luts = rows * width / lut_bits[step]
        return "distributed", Resources(lut=luts, ff=width if registered else 0)
    half = 0.5 if target.bram.bits > 20_000 else 1.0
    halves = min(-(-width // w) * -(-depth // d) for w, d in _HALF_BLOCKS.items())
    ultra = -(-width // _URAM[0]) * -(-depth // _URAM[1])
    in_bram = halves * half * target.bram.bits
    better = target.uram.usable and ultra * target.uram.bits <= in_bram
    if style == "uram" or (style is None and better):
        return "uram", Resources(uram=ultra)
    return "bram", Resources(bram=halves * half)


def _style(rows: int) -> MemoryKind | None:
    return "distributed" if rows <= SHALLOW else None


def buffers(config: CoreConfig, target: TargetCard) -> tuple[Buffer, ...]:
    """Every memory of a core, tables and queues of descriptors left out."""
    c = config
    port = c.port_shape
    word, lanes = 8 * c.port_bytes, c.ports * c.beat_stripes
    slot_words, rows = c.slots * c.context_chunks, 1 if c.pim else c.tokens
    large: MemoryKind = "uram" if c.buffer_style == "ultra" else "bram"
    ring: MemoryKind | None = "uram" if c.ring_style == "ultra" else None

    def buffer(
        name: str, block: str, banks: int, depth: int, width: int, style: MemoryKind | None = None
    ) -> Buffer:
        kind, each = memory(width, depth, target, style, registered=style != "distributed")
        return Buffer(name, block, banks, depth, width, kind, each * banks)

    return (
        buffer("weight ring", "memory ports", lanes, c.w_depth, word, ring),
        *(
            buffer(
                f"weight {_PLANES[p.name]}",
                "memory ports",
                c.ports * p.lanes,
                port.side_rows(p),
                word,
                _style(port.side_rows(p)),
            )
            for p in (c.side.planes if c.side is not None else ())
        ),
        buffer("key ring", "memory ports", lanes, c.k_depth, word),
        buffer("value ring", "memory ports", lanes, c.v_depth, word),
        buffer("embedding queues", "memory ports", c.ports, port.e_depth, word, "distributed"),
        buffer("write queues", "memory ports", c.ports, port.writes, word * 9 // 8, "distributed"),
        buffer(
            "activations",
            "buffers",
            c.tokens * c.span,
            c.activation_depth // c.span,
            8 * c.lanes,
            large,
        ),
        buffer("residual stream", "buffers", 1, c.chunk * c.width_words, 16 * c.lanes, large),
        buffer("scores", "softmax", 1, rows * slot_words, 16 * c.lanes),
        buffer("probabilities", "softmax", rows, slot_words, 7 * c.lanes),
        buffer("norm rows", "layer norm", 1, _norm_copy_words(c), 16 * c.lanes),
        buffer("norm parameters", "layer norm", 1, c.width_words, 8 * c.norm_bytes * c.lanes),
        buffer(
            "tile headers",
            "headers",
            1,
            header_buffers(c),
            64 * c.lanes * c.header_tiles,
            "distributed",
        ),
        *(
            [buffer("angles", "buffers", 1, c.chunk * c.head_words, 16 * c.lanes, "bram")]
            if c.rotary
            else [
                buffer(
                    "embedding words", "embedding", 1, _stripe_words(c), 16 * c.lanes, "distributed"
                )
            ]
        ),
        *([buffer("gates", "buffers", 1, c.chunk, 16 * c.lanes, "bram")] if c.gated else []),
        *(
            buffer(name, "pim channels", c.pim_channels, depth, width)
            for name, depth, width in (_pim_buffers(c) if c.pim else ())
        ),
    )


def _pim_buffers(c: CoreConfig) -> tuple[tuple[str, int, int], ...]:
    """Memories of a station: name, words, bits of a word."""
    s = c.cache
    result = s.channel.banks * s.channel.res_bits
    return (
        ("channel vectors", s.vector_words, 8 * BURST_BYTES),
        ("channel results", RESULTS, result),
        ("channel sums", s.vectors_here * s.pieces, result),
        ("channel rows", s.rows_depth, 8 * c.lanes + 32),
    )


_PLANES = {"f": "factors", "i": "indices"}
"""What the planes of ring W hold."""


def _stripe_words(c: CoreConfig) -> int:
    """Words of the residual stream in a stripe."""
    return c.stripe_bytes // (2 * c.lanes)


def _norm_copy_words(c: CoreConfig) -> int:
    """Words that LayerNorm keeps between its two passes over a row."""
    from hw.sfu.layernorm import InverseRoot, NormSums

    waits = NormSums(c.width, c.lanes).latency + InverseRoot.latency - 2
    return 1 << (c.width_words + waits).bit_length()


def estimate(config: CoreConfig, target: TargetCard) -> tuple[Block, ...]:
    """What a design takes, by block."""
    from hw.core.accelerator import make_core_engine

    c = config
    engine = make_core_engine(c)
    own = engine.resources()
    six_inputs = {
        "engine": Resources(dsp=own.dsp, lut=own.lut, ff=own.ff, bram=own.bram),
        "operands": _operands(c),
        "memory ports": _ports(c),
        "buffers": Resources(),
        "drain": _drain(c, engine.acc_bits),
        "headers": _headers(c),
        "layer norm": _layer_norm(c),
        "softmax": _softmax(c),
        "argmax": Resources(lut=c.lanes * 60, ff=c.lanes * 40 + 160),
        "embedding": _embedding(c),
        **({} if c.pim else {"keys and values": _keys_and_values(c)}),
        **({"pim channels": _pim_channels(c)} if c.pim else {}),
        "control": _control(c),
    }
    held = buffers(c, target)
    words = {
        block: {f"word_memory_d{b.depth}_w{b.width}" for b in held if b.block == block}
        for block in ("layer norm", "softmax")
    }
    modules = {
        "engine": tuple(dict.fromkeys(_names(engine))),
        "operands": ("operand_memory", "weight_decoder"),
        "memory ports": ("striped_memory", "memory_port", "ring_memory", "queue", "burst_cutter"),
        "buffers": ("banked_buffer",),
        "drain": (
            "drain", "requantise", "activation", "activation_pair", "rotary", "gated_product",
        ),
        "headers": ("header_buffers",),
        "layer norm": ("layer_norm", "norm", "inverse_root", *words["layer norm"]),
        "softmax": ("softmax", "row_maximum", "exp2_lanes", "reciprocal", *words["softmax"]),
        "argmax": ("arg_max",),
        "embedding": ("embed",),
        "keys and values": ("key_value_writer", "head_fetch"),
        "pim channels": (
            "pim_attention", "pim_station", "pim_channel", "pim_control", "pim_timers", "pim_writer", "pim_sweep",
            "pim_results", "event_counters",
        ),
        "control": (
            "accelerator", "sequencer", "feeder", "control_registers", "axi_lite",
            "step_counters", "probe", "hwgen_top",
        ),
    }  # fmt: skip
    found = []
    for name, logic in six_inputs.items():
        if target.family == "ecp5":
            narrow = c.lanes * _NARROW.get(name, 0)
            logic = logic.model_copy(update={"lut": logic.lut * _LUT4, "dsp": logic.dsp + narrow})
        used = sum((b.resources for b in held if b.block == name), logic)
        if name == "drain":  # the gates: one table for two lanes
            _, table = memory(16, 1024, target, "bram")
            used += table * -(-c.lanes // 2)
        found.append(Block(name, used, modules[name]))
    return tuple(found)


def _names(unit: Unit) -> list[str]:
    return [unit.module_name] + [name for part in unit.parts() for name in _names(part)]


def _operands(c: CoreConfig) -> Resources:
    """Three sources for weights, two for activations (two to a LUT), and the words of a stripe."""
    words = 16 * c.lanes * (_stripe_words(c) - 1) / 3
    activations = (4 if c.span == 1 else 8) * c.tokens * c.reduce  # of words side by side, any
    return Resources(lut=8 * c.beat_bytes + activations + words) + _decoder(c)


def _decoder(c: CoreConfig) -> Resources:
    """A beat out of its rows, a product of 4 by 4 bits for each value, and the places of values (by yosys)."""
    s = c.stream
    if not s.compressed:
        return Resources()
    taken = 0.0
    for size, row in (
        (c.span * s.value_bytes, s.row_bytes),
        (c.span * s.index_bytes, s.stripe_bytes),
        (c.span * s.factor_bytes, s.stripe_bytes),
    ):
        if size:
            taken += 8 * size * (max(1, row // size) - 1) / 3
    products = 28 * 2 * c.span * s.value_bytes if s.bits == 4 else 0
    side = c.side
    read = sum(8 * s.stripe_bytes * p.lanes for p in side.planes) if side is not None else 0
    if c.sparsity != "dense":
        # Places stay positions; of masks they are counted. The words of dense beats, in turns.
        counted = 0 if s.position_bits else 12 * s.place_count
        places = c.span * (counted + 8 * s.lanes * s.taps)
    else:
        places = {1: 0, 4: 10, 8: 16, 16: 24}[s.m] * s.row_bytes
    return Resources(lut=taken + products + places + 8 * s.row_bytes, ff=read)


def _ports(c: CoreConfig) -> Resources:
    """Burst cutters, room counters, address registers; the queues' words are `buffers`."""
    port = Resources(lut=1000 + 64, ff=720 + 8 * c.port_bytes)
    return port * c.ports + Resources(ff=60)


def _drain(c: CoreConfig, acc_bits: int) -> Resources:
    """Requantisation, activation, saturation and residual addition of a row."""
    tag = tile_layout(c).size + 8
    requantise = Resources(dsp=2, lut=33 + 50 + 150 + 30, ff=33 + 22 + 6 + 50 + 6 + 50 + 16)
    activation = Resources(dsp=1, lut=20 + 200 + 32 + 96 + 20, ff=170)
    rest = Resources(lut=12 + 45, ff=16)
    parameters = Resources(lut=54 + 16)  # of the header or of the softmax row
    lane = requantise + activation + rest + parameters
    if c.rotary:  # of a pair four products, two sums, and their rounding
        lane += Resources(dsp=2, lut=33 + 20 + 24, ff=16 + 64 + 24 + 24)
    if c.gated:
        lane += Resources(dsp=1, lut=24 + 20, ff=16 + 32 + 8)
    return lane * c.lanes + Resources(lut=500 + 2 * tag, ff=300 + 12 * tag)


def _headers(c: CoreConfig) -> Resources:
    """Selection of a tile's parameters from those that share a beat."""
    return Resources(lut=64 * c.lanes * (c.header_tiles - 1) / 3)


def _layer_norm(c: CoreConfig) -> Resources:
    centred = (c.width * (0xFFFF if c.centred else 0x8000)).bit_length() + 1
    product = centred + 17
    sums = Resources(lut=210 + 75, ff=130)
    normalise = Resources(
        dsp=2 if centred > 27 else 1,
        lut=centred + 3 * product + 220 + 33 + 66 + 20,
        ff=centred + product + 16 + 48 + 26 + 66 + 8,
    )
    beat_words = c.beat_bytes // (c.norm_bytes * c.lanes)
    cut = Resources(
        lut=8 * c.norm_bytes * c.lanes * max(0, beat_words - 1) / 3
    )  # of a beat into words
    root = Resources(dsp=6, lut=700, ff=500)
    return (sums + normalise) * c.lanes + cut + root + Resources(lut=100, ff=250)


def _softmax(c: CoreConfig) -> Resources:
    maximum = Resources(lut=36, ff=6)
    power = Resources(lut=16 + 34 + 20 + 14, ff=29 + 4)
    rows = c.slots * c.tokens * (16 + 22)
    divider = Resources(lut=1300, ff=700)
    return (maximum + power) * c.lanes + divider + Resources(lut=rows + 400, ff=rows + 300)


def _embedding(c: CoreConfig) -> Resources:
    """Addition of two words, addresses."""
    return Resources(lut=24 * c.lanes + 300, ff=100)


def _keys_and_values(c: CoreConfig) -> Resources:
    """A row of features held, strobes, addresses; two descriptor generators."""
    return Resources(lut=130 + c.stripe_bytes / c.lanes, ff=8 * c.lanes + 180)


def _pim_channels(c: CoreConfig) -> Resources:
    """Controllers and stations; banks and multipliers are in the memory."""
    s, banks = c.cache, c.cache.channel.banks
    timers = Resources(lut=_PIM_BANK.lut * banks, ff=_PIM_BANK.ff * banks)
    result = s.channel.res_bits * banks
    sums = Resources(lut=4.2 * result, ff=2.9 * result)  # added up, cut or joined
    station = Resources(lut=1650, ff=600, dsp=1)
    chosen = Resources(lut=16 * c.lanes * s.channels, ff=16 * c.lanes + 800)  # rows of channels
    return (timers + sums + station) * s.channels + chosen


def _control(c: CoreConfig) -> Resources:
    """Sequencer, feeder, registers, and five counters of 32 bits for each step."""
    counters = 5 * 12 * 32
    registers = 64 * c.ports
    return Resources(lut=3500 + counters + registers, ff=1000 + counters + registers)
