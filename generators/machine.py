# SPDX-License-Identifier: Apache-2.0
"""The numbers of a machine, read off the hardware's components: no latency is written twice."""

from __future__ import annotations

import warnings
from fractions import Fraction

from amaranth.hdl import UnusedElaboratable

from designs.target import TargetCard
from hw.core.accelerator import make_core_engine
from hw.core.config import CoreConfig
from hw.core.feeder import header_buffers
from hw.memory import StripedMemory
from hw.pim.cache import RESULTS
from hw.sfu.activation import Activation
from hw.sfu.argmax import ArgMax
from hw.sfu.layernorm import LayerNorm, NormSums
from hw.sfu.product import GatedProduct
from hw.sfu.requantise import Requantise
from hw.sfu.rotary import Rotary
from hw.sfu.softmax import Softmax
from schedules.machine import Machine, ReadClient
from schedules.pim import PimMachine

__all__ = ["measure"]

OUTSTANDING = 32
"""Bursts that a memory accepts on a port before it has answered the first; the simulated one does so too."""

RESULT = 3
"""Cycles from a result of a PIM channel to the row of sums that it becomes: a queue, and the sum so far."""

STREAM, WRITE, RESIDUAL = 2, 2, 1
"""Registers on a word's way to the embedding, a write's way to ``awvalid``, between a residual row's read and write."""


def measure(config: CoreConfig, board: TargetCard) -> Machine:
    """The machine that a core is with the memory of a board.

    Parameters
    ----------
    config : the core.
    board : gives bandwidth and latency of the memory.
    """
    with warnings.catch_warnings():  # components that are only asked
        warnings.simplefilter("ignore", UnusedElaboratable)
        return _measure(config, board)


def _measure(c: CoreConfig, board: TargetCard) -> Machine:
    shape = c.port_shape
    norm = LayerNorm(
        width=c.width,
        lanes=c.lanes,
        rows_bits=(c.chunk - 1).bit_length() or 1,
        beat_bytes=c.beat_bytes,
        centred=c.centred,
    )
    softmax = Softmax(
        tokens=1 if c.pim else c.tokens,
        lanes=c.lanes,
        context=c.context_chunks * c.lanes,
        slots=c.slots,
    )
    engine = make_core_engine(c)
    return Machine(
        array=c.array,
        pe=c.pe,
        tokens=c.tokens,
        lanes=c.lanes,
        chunk=c.chunk,
        context=c.context,
        slots=c.slots,
        ports=c.ports,
        port_bytes=c.port_bytes,
        port_rate=_port_rate(c, board),
        memory_latency=board.memory.latency_cycles,
        memory_outstanding=OUTSTANDING,
        clients=tuple(
            (
                name,
                ReadClient(
                    words=words,
                    burst=shape.limits[name],
                    flight=shape.flight if name == "w" else None,
                ),
            )
            for name, words in shape.capacity.items()
        ),
        bursts=shape.outstanding,
        writes=shape.writes,
        request_latency=StripedMemory.request_latency,
        arrival_latency=StripedMemory.data_latency,
        stream_latency=STREAM,
        write_latency=WRITE,
        header_tiles=c.header_tiles,
        header_buffers=header_buffers(c),
        engine_latency=engine.latency,
        beat_cycles=tuple(engine.beat_cycles(rows) for rows in range(1, c.tokens + 1)),
        multipliers=c.tokens * c.reduce * c.lanes,
        requantise_latency=Requantise.latency,
        activation_latency=Activation.latency + (GatedProduct.latency if c.gated else 0),
        rotary_latency=Rotary.latency if c.rotary else 0,
        residual_latency=RESIDUAL,
        norm_row=norm.cycles(2) - norm.cycles(1),
        norm_latency=2 * norm.cycles(1) - norm.cycles(2),
        norm_sums=NormSums(c.width, c.lanes, c.centred).latency,
        norm_parameters=-(-c.norm_bytes * c.width // c.beat_bytes),
        norm_beat=min(c.beat_bytes // (c.norm_bytes * c.lanes), c.width_words),
        softmax_latency=softmax.cycles(1, 1) - 1,
        softmax_wait=softmax.wait,
        argmax_latency=ArgMax(lanes=c.lanes, index_bits=32).latency,
        embed_words=c.stripe_bytes // (2 * c.lanes),
        row_stripes=c.row_stripes,
        position_stripes=c.position_stripes,
        turns=c.turns,
        span=c.span,
        stream_row=c.stream.row_beats,
        stream_period=c.stream.period_beats,
        stream_side=c.stream.side_stripes,
        stream_terms=c.w_terms,
        stream_words=c.w_words,
        words_wait=int(c.w_masks),
        layers=c.layers,
        pim=_pim(c),
    )


def _pim(c: CoreConfig) -> PimMachine | None:
    if c.pim is None:
        return None
    s, p, t = c.cache, c.pim, c.pim.timing
    return PimMachine(
        channels=s.channels, banks=p.banks, ranks=p.ranks, groups=p.groups, act_group=p.act_group,
        heads=s.heads_here, shared=s.shared, tile=s.tile, span=s.span, key_rows=s.key_rows,
        layer_rows=s.layer_rows, pieces=s.pieces, step_lanes=p.lanes, key_steps=s.key_steps,
        query_bursts=s.query_bursts, most=s.most, promise=s.promise, results=RESULTS,
        rows_depth=s.rows_depth, result_latency=t.rl + RESULT,
        rl=t.rl, burst=t.burst, rcd_wr=t.rcd_wr, rcd_pim=t.rcd_pim, rp=t.rp, ras=t.ras, rc=t.rc,
        rrd_s=t.rrd_s, rrd_l=t.rrd_l, faw=t.faw, write_end=t.write_end, wr=t.wr, rfc=t.rfc,
        refi=t.refi, comp=t.comp, fill=t.fill, result_cycles=p.group_cycles(t.fill) - t.comp * t.fill,
    )  # fmt: skip


def _port_rate(config: CoreConfig, board: TargetCard) -> Fraction:
    """Bytes that a port is granted in a cycle; within a percent of all, it is all."""
    share = Fraction(board.granted_bytes_per_cycle).limit_denominator(4096) / config.ports
    full = Fraction(config.port_bytes)
    return full if share >= full * Fraction(99, 100) else share
