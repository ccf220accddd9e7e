# SPDX-License-Identifier: Apache-2.0
"""The accelerator: units, buffers and memory of one core, wired."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.arrays import accumulator_bits, make_engine
from hw.control.axi_lite import ControlRegisters
from hw.control.registers import register_map
from hw.core.buffers import BankedBuffer
from hw.core.config import CoreConfig
from hw.core.counters import EVENTS, PIM_EVENTS, EventCounters, StepCounters
from hw.core.drain import Drain
from hw.core.embed import Embed
from hw.core.feeder import Beat, Feeder, Source, header_buffers
from hw.core.headers import HeaderBuffers
from hw.core.kv import HeadFetch, KeyValueWriter
from hw.core.operands import OperandMemory
from hw.core.pim import PimAttention
from hw.core.program import Destination, Program
from hw.core.sequencer import Sequencer
from hw.memory import StripedMemory
from hw.memory.axi import Axi4Signature, AxiLiteSignature
from hw.probe import Probe
from hw.sfu.argmax import ArgMax
from hw.sfu.layernorm import LayerNorm
from hw.sfu.softmax import Softmax
from hw.unit import Unit, place

__all__ = ["Accelerator", "make_core_engine"]


def make_core_engine(config: CoreConfig):
    """The engine of a core; its accumulators hold the longest reduction of the network exactly."""
    longest = max(config.width, config.ffn, config.context_chunks * config.lanes)
    sharing = {} if config.sparsity == "dense" else {"share": config.w_share}
    return make_engine(
        config.array,
        config.pe,
        config.sparsity,
        encoding=config.encoding or None,
        dsp=config.dsp,
        tokens=config.tokens,
        reduce=config.reduce,
        outputs=config.lanes,
        acc_bits=accumulator_bits(longest),
        **sharing,
    )


class Accelerator(Unit):
    """One core between an AXI4-Lite control port and the memory ports.

    Members
    -------
    control : AXI4-Lite, the registers of ``hw.control.registers``
    interrupt : level
    m_axi_g00, ... : AXI4, one for each memory port
    """

    def __init__(self, config: CoreConfig, program: Program) -> None:
        self._config, self._program = config, program
        counters = [f"{step}_{event}" for step in program.names for event in EVENTS]
        counters += [f"pim_{event}" for event in PIM_EVENTS] if config.pim else []
        self.registers = register_map(config.ports, counters)
        super().__init__(
            {
                "control": In(AxiLiteSignature()),
                "interrupt": Out(1),
                **{
                    f"m_axi_g{p:02d}": Out(Axi4Signature(8 * config.port_bytes))
                    for p in range(config.ports)
                },
            },
            {},
        )

    @property
    def config(self) -> CoreConfig:
        return self._config

    @property
    def program(self) -> Program:
        return self._program

    @property
    def _span_bits(self) -> int:
        """Bits of a word's place among those that the engine takes side by side."""
        return (self._config.span - 1).bit_length()

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        engine = place(m, "engine", make_core_engine(c))
        pim = place(m, "pim", PimAttention(c, engine.acc_bits)) if c.pim else None
        sequencer = place(m, "sequencer", Sequencer(c, self._program))
        feeder = place(m, "feeder", Feeder(c))
        drain = place(m, "drain", Drain(c, acc_bits=engine.acc_bits))
        memory = place(m, "memory", OperandMemory(
            StripedMemory(ports=c.ports, shape=c.port_shape), lanes=c.lanes, stripe_bytes=c.stripe_bytes,
            stream=c.stream, kept=c.sparsity != "dense", span=c.span,
        ))  # fmt: skip
        # Words that an engine takes side by side lie in banks of their own.
        activations = place(m, "activations", BankedBuffer(
            banks=c.tokens * c.span, depth=c.activation_depth // c.span, width=8 * c.lanes, style=c.buffer_style,
        ))  # fmt: skip
        residual = place(m, "residual", BankedBuffer(
            banks=1, depth=c.chunk * c.width_words, width=16 * c.lanes, style=c.buffer_style,
        ))  # fmt: skip
        self._control(m, sequencer, memory, pim)
        self._operands(m, feeder, memory, activations, engine, pim)
        norm = self._norm(m, sequencer, feeder, memory)
        softmax = self._softmax(m, feeder, drain, pim)
        embed = self._embed(m, sequencer, memory)
        self._buffers(m, drain, norm, embed, activations, residual, sequencer)
        if c.rotary:
            self._angles(m, drain, embed)
        self._keys_and_values(m, sequencer, feeder, drain, memory, pim)
        self._result(m, sequencer, drain)
        self._headers(m, feeder, drain, softmax, memory)
        m.d.comb += [
            feeder.length.eq(sequencer.length),
            feeder.past.eq(sequencer.past),
            sequencer.feeder_busy.eq(feeder.busy),
            sequencer.pushed.eq(feeder.tile.valid & feeder.tile.ready),
            sequencer.retired.eq(drain.retired),
        ]
        connect(m, feeder.step, sequencer.step)
        connect(m, drain.tile, feeder.tile)
        m.d.comb += [
            drain.rows.valid.eq(engine.o.valid),
            drain.rows.payload.eq(engine.o.payload),
            engine.o.ready.eq(drain.rows.ready),
        ]
        if pim is not None:
            self._attention(m, sequencer, feeder, drain, softmax, pim)
        return m

    def _attention(self, m, sequencer, feeder, drain, softmax, pim: PimAttention) -> None:
        """Attention on PIM channels: the engine is quiet, and all rows are those of the channels."""
        connect(m, feeder.other, pim.tile)
        m.d.comb += [
            pim.layer.eq(sequencer.layer),
            pim.past.eq(sequencer.past),
            pim.length.eq(sequencer.length),
            pim.start.eq(feeder.other_start),
            pim.restart.eq(sequencer.ready),
            feeder.other_done.eq(pim.done),
            pim.p_data.eq(self._probabilities),
            pim.softmax_done.eq(softmax.done),
            pim.o.ready.eq(drain.rows.ready),
        ]
        with m.If(pim.o.valid):
            m.d.comb += [drain.rows.valid.eq(1), drain.rows.payload.eq(pim.o.payload)]

    def _control(
        self, m: Module, sequencer: Sequencer, memory: OperandMemory, pim: PimAttention | None
    ) -> None:
        c = self._config
        control = place(m, "control_registers", ControlRegisters(self.registers))
        counters = place(m, "counters", StepCounters(len(self._program.steps)))
        connect(m, flipped(self.control), control.bus)
        cycles, running = Signal(64), Signal()
        with m.If(sequencer.ready):
            m.d.sync += [cycles.eq(0), running.eq(1)]
        with m.Elif(running):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(sequencer.done):
            m.d.sync += running.eq(0)
        m.d.comb += [
            self.interrupt.eq(control.interrupt),
            sequencer.start.eq(control.start),
            control.ready.eq(sequencer.ready),
            control.done.eq(sequencer.done),
            control.idle.eq(sequencer.idle),
            sequencer.prompt.eq(control.prompt),
            sequencer.generate.eq(control.generate),
            sequencer.position.eq(control.position),
            sequencer.layers.eq(control.layers),
            control.generated.eq(sequencer.generated),
            control.token.eq(sequencer.token),
            control.cycles.eq(cycles[:32]),
            control.cycles_high.eq(cycles[32:]),
            counters.clear.eq(sequencer.ready),
            counters.step.eq(sequencer.phase),
            control.counters.eq(counters.values),
        ]
        m.d.comb += [memory.base[p].eq(getattr(control, f"memory_{p}")) for p in range(c.ports)]
        for p in range(c.ports):
            name = f"m_axi_g{p:02d}"
            connect(m, flipped(getattr(self, name)), getattr(memory, name))
        self._counters, self._running = counters, running
        if pim is not None:
            events = place(m, "pim_counters", EventCounters(len(PIM_EVENTS)))
            m.d.comb += [
                events.clear.eq(sequencer.ready),
                events.events.eq(Cat(getattr(pim, event) for event in PIM_EVENTS)),
                control.counters.eq(Cat(counters.values, events.values)),
            ]

    def _operands(self, m, feeder, memory, activations, engine, pim) -> None:
        c = self._config
        for name in "wkv":
            ring = getattr(memory, name)
            m.d.comb += [
                ring.rd_index.eq(getattr(feeder, f"{name}_index")),
                ring.rd_en.eq(getattr(feeder, f"{name}_en")),
                getattr(feeder, f"{name}_ok").eq(ring.ok),
                ring.release.valid.eq(getattr(feeder, f"{name}_free")),
                ring.release.count.eq(getattr(feeder, f"{name}_count")),
            ]
        self._probabilities = Signal((1 if pim else c.tokens) * c.lanes * 8)
        self._parameter_ready = Signal()
        is_engine = feeder.beat.kind == Beat.ENGINE
        is_parameter = feeder.beat.kind == Beat.NORM_PARAMETER
        m.d.comb += [
            activations.r_en.eq(feeder.a_en),
            activations.r_addr.eq(feeder.a_addr >> self._span_bits),
            engine.i.valid.eq(feeder.beat_valid & is_engine),
            feeder.beat_ready.eq(
                Mux(is_engine, engine.i.ready, Mux(is_parameter, self._parameter_ready, 1))
            ),
            engine.i.p.first.eq(feeder.beat.first),
            engine.i.p.last.eq(feeder.beat.last),
            engine.i.p.rows.eq(feeder.beat.rows),
        ]
        operands = self._of_rows(
            activations.r_data, c.span, lambda row: self._words_of(row, feeder.beat)
        )
        m.d.comb += [
            memory.source.eq(feeder.beat.source),
            *([memory.raw.eq(~is_engine)] if c.stream.compressed else []),
            engine.i.p.x.eq(
                operands
                if pim is not None
                else Mux(
                    feeder.beat.source == Source.VALUES,
                    self._of_rows(self._probabilities, 1, lambda row: [row] * c.span),
                    operands,
                )
            ),
        ]
        if pim is not None:
            word = Signal(max(1, self._span_bits))  # of those that are read at once
            with m.If(pim.a_en):
                m.d.comb += [
                    activations.r_en.eq(1),
                    activations.r_addr.eq(pim.a_addr >> self._span_bits),
                ]
                m.d.sync += word.eq(pim.a_addr[: self._span_bits])
            m.d.comb += pim.a_data.eq(
                self._of_rows(
                    activations.r_data, c.span, lambda row: [row.word_select(word, 8 * c.lanes)]
                )
            )
        if c.turns > 1:
            m.d.comb += memory.turn.eq(feeder.beat.turn)
        if c.sparsity != "dense":
            m.d.comb += Cat(engine.i.p.w, engine.i.p.index).eq(memory.beat)
        else:
            m.d.comb += engine.i.p.w.eq(memory.beat)
        m.d.comb += self._counters.events.eq(
            Cat(
                self._running,
                (engine.i.valid & engine.i.ready)
                if pim is None
                else (engine.i.valid & engine.i.ready) | pim.multiplied,
                feeder.starved,
                feeder.blocked,
                feeder.waiting,
            )
        )

    def _of_rows(self, data: Any, words: int, take: Callable[[Any], list[Any]]) -> Any:
        """What a beat takes of each token row, of whose words so many lie side by side."""
        c = self._config
        if c.span == 1:
            return data
        bits = 8 * c.lanes * words
        return Cat(Cat(take(data[t * bits : (t + 1) * bits])) for t in range(c.tokens))

    def _words_of(self, row: Any, beat: Any) -> list[Any]:
        """The words of a row that a beat is for, of those that were read."""
        c, bits = self._config, self._span_bits
        return [
            row.word_select(beat.words[h * bits : (h + 1) * bits], 8 * c.lanes)
            for h in range(c.span)
        ]

    def _headers(self, m, feeder, drain, softmax, memory) -> None:
        """Words of the weight stream that are not weights: tile headers and constants."""
        c = self._config
        beat = memory.beat
        headers = place(m, "headers", HeaderBuffers(
            buffers=header_buffers(c), tiles=c.header_tiles, lanes=c.lanes, beat_bytes=c.beat_bytes,
        ))  # fmt: skip
        if c.w_masks:
            m.d.comb += feeder.words.eq(Cat(self._words(beat, j) for j in range(c.header_tiles)))
        multiplier, shift = Signal(16), Signal(6)
        with m.If(feeder.beat_valid & (feeder.beat.kind == Beat.CONSTANT)):
            m.d.sync += [multiplier.eq(beat[32:48]), shift.eq(beat[48:54])]
        m.d.comb += [
            headers.w_en.eq(feeder.beat_valid & (feeder.beat.kind == Beat.HEADER)),
            headers.w_buffer.eq(feeder.beat.buffer),
            headers.beat.eq(beat),
            headers.r_buffer.eq(drain.p_buffer),
            headers.r_tile.eq(drain.p_tile),
            drain.header.eq(headers.header),
            drain.multiplier.eq(multiplier),
            drain.shift.eq(shift),
            softmax.constant.multiplier.eq(multiplier),
            softmax.constant.shift.eq(shift),
            feeder.header_free.eq(drain.header_free),
            feeder.header_buffer.eq(drain.header_buffer),
        ]

    def _words(self, beat: Any, tile: int) -> Any:
        """Of which words of the operand a tile has weights: the last bytes of its channels' headers."""
        c = self._config
        channels = range(tile * c.lanes, (tile + 1) * c.lanes)
        return Cat(beat[64 * n + 56 : 64 * n + 64] for n in channels)[: c.operand_words]

    def _norm(self, m, sequencer, feeder, memory) -> LayerNorm:
        c = self._config
        norm = place(m, "norm", LayerNorm(
            width=c.width, lanes=c.lanes, rows_bits=(c.chunk - 1).bit_length() or 1,
            beat_bytes=c.beat_bytes, centred=c.centred,
        ))  # fmt: skip
        beat = memory.beat
        here = feeder.beat_valid
        parameter = here & (feeder.beat.kind == Beat.NORM_PARAMETER)
        m.d.comb += [
            norm.constants.valid.eq(here & (feeder.beat.kind == Beat.NORM_CONSTANT)),
            norm.constants.epsilon.eq(beat[:64]),
            norm.constants.gamma_shift.eq(beat[64:68]),
            norm.param.valid.eq(parameter),
            norm.param.p.index.eq(feeder.beat.index),
            norm.param.p.data.eq(beat),
            self._parameter_ready.eq(norm.param.ready),
            norm.param_done.eq(parameter & norm.param.ready & feeder.beat.last),
            norm.job.valid.eq(sequencer.norm_valid),
            sequencer.norm_ready.eq(norm.job.ready),
            sequencer.norm_busy.eq(norm.busy),
            norm.job.p.first.eq(Mux(sequencer.norm_last, sequencer.length - 1, 0)),
            norm.job.p.count.eq(Mux(sequencer.norm_last, 1, sequencer.length)),
            norm.job.p.to.eq(0),
        ]
        return norm

    def _softmax(self, m, feeder, drain, pim) -> Softmax:
        c = self._config
        softmax = place(m, "softmax", Softmax(
            tokens=1 if pim else c.tokens, lanes=c.lanes, context=c.context_chunks * c.lanes, slots=c.slots,
        ))  # fmt: skip
        reader = feeder if pim is None else pim
        for field in ("slot", "rows", "chunks", "columns"):
            m.d.comb += softmax.item.p[field].eq(drain.item.p[field])
        m.d.comb += [
            softmax.item.valid.eq(drain.item.valid),
            drain.item.ready.eq(softmax.item.ready),
            softmax.p_en.eq(reader.p_en),
            softmax.p_slot.eq(reader.p_slot),
            softmax.p_chunk.eq(reader.p_chunk),
            self._probabilities.eq(softmax.p_data.as_value()),
            softmax.r_slot.eq(drain.r_slot),
            drain.r_multiplier.eq(softmax.r_multiplier.as_value()),
            drain.r_shift.eq(softmax.r_shift.as_value()),
            feeder.softmax_done.eq(softmax.done),
        ]
        m.d.comb += softmax.score.data.as_value().eq(drain.score.data)
        for field in ("valid", "slot", "row", "chunk", "limit", "first"):
            m.d.comb += getattr(softmax.score, field).eq(drain.score[field])
        return softmax

    def _embed(self, m, sequencer, memory) -> Embed:
        embed = place(m, "embed", Embed(self._config))
        connect(m, memory.e_desc, embed.descriptor)
        connect(m, embed.words, memory.words)
        m.d.comb += [
            embed.start.eq(sequencer.embed_start),
            embed.length.eq(sequencer.length),
            embed.position.eq(sequencer.past),
            embed.prompt.eq(sequencer.embed_prompt),
            embed.token.eq(sequencer.embed_token),
            sequencer.embed_busy.eq(embed.busy),
        ]
        return embed

    def _buffers(self, m, drain, norm, embed, activations, residual, sequencer) -> None:
        """Write and read ports: embedding, norm and matrix products never run at the same time."""
        c = self._config
        token_bits = (c.tokens - 1).bit_length()
        word = Signal(range(c.activation_depth))
        norm_address = (norm.y_row >> token_bits) * c.width_words + norm.y_chunk + c.norm_base
        m.d.comb += [
            activations.w_en.eq(drain.a_en | norm.y_valid),
            word.eq(Mux(norm.y_valid, norm_address, drain.a_addr)),
            activations.w_bank.eq(
                Cat(
                    word[: self._span_bits],
                    Mux(norm.y_valid, norm.y_row[:token_bits], drain.a_bank),
                )
            ),
            activations.w_addr.eq(word >> self._span_bits),
            activations.w_data.eq(Mux(norm.y_valid, norm.y_data.as_value(), drain.a_data)),
            residual.w_en.eq(drain.x_wen | embed.x_wen),
            residual.w_bank.eq(0),
            residual.w_addr.eq(Mux(embed.x_wen, embed.x_waddr, drain.x_waddr)),
            residual.w_data.eq(Mux(embed.x_wen, embed.x_wdata, drain.x_wdata)),
            residual.r_en.eq(drain.x_ren | norm.x_en),
            residual.r_addr.eq(
                Mux(norm.x_en, norm.x_row * c.width_words + norm.x_chunk, drain.x_raddr)
            ),
            drain.x_rdata.eq(residual.r_data),
            norm.x_data.as_value().eq(residual.r_data),
        ]
        x_probe = place(m, "residual_probe", Probe(0, 16 * c.lanes))
        a_probe = place(m, "activation_probe", Probe(1, 8 * c.lanes))
        m.d.comb += [
            x_probe.valid.eq(residual.w_en),
            x_probe.phase.eq(Mux(embed.x_wen, sequencer.phase, drain.x_where.phase)),
            x_probe.layer.eq(sequencer.layer),
            x_probe.row.eq(Mux(embed.x_wen, embed.x_row, drain.x_where.row)),
            x_probe.chunk.eq(Mux(embed.x_wen, embed.x_chunk, drain.x_where.chunk)),
            x_probe.data.eq(residual.w_data),
            a_probe.valid.eq(activations.w_en),
            a_probe.phase.eq(Mux(norm.y_valid, sequencer.phase, drain.a_where.phase)),
            a_probe.layer.eq(sequencer.layer),
            a_probe.row.eq(Mux(norm.y_valid, norm.y_row, drain.a_where.row)),
            a_probe.chunk.eq(Mux(norm.y_valid, norm.y_chunk, drain.a_where.chunk)),
            a_probe.data.eq(activations.w_data),
        ]

    def _angles(self, m, drain, embed) -> None:
        """The cosines and sines of the positions of a pass."""
        c = self._config
        angles = place(m, "angles", BankedBuffer(
            banks=1, depth=max(2, c.chunk * c.head_words), width=16 * c.lanes, style="block",
        ))  # fmt: skip
        m.d.comb += [
            angles.w_en.eq(embed.t_wen),
            angles.w_bank.eq(0),
            angles.w_addr.eq(embed.t_waddr),
            angles.w_data.eq(embed.t_wdata),
            angles.r_en.eq(drain.t_en),
            angles.r_addr.eq(drain.t_addr),
            drain.t_data.eq(angles.r_data),
        ]

    def _keys_and_values(
        self, m, sequencer, feeder, drain, memory, pim: PimAttention | None
    ) -> None:
        c = self._config
        write = self._through_memory(m, drain, memory) if pim is None else None
        probe = place(m, "kv_probe", Probe(2, 8 * c.lanes))
        connect(m, memory.w_desc, sequencer.weights)
        answer = sequencer.answer
        tile = feeder.tile
        is_kv = (tile.p.destination == Destination.KEY) | (tile.p.destination == Destination.VALUE)
        if write is not None:
            m.d.comb += [
                write.past.eq(sequencer.past),
                write.offset.eq(sequencer.kv_offset),
            ]
        m.d.comb += [
            sequencer.kv_pushed.eq(tile.valid & tile.ready & is_kv),
            sequencer.kv_retired.eq(drain.kv_retired),
        ]
        if write is not None:
            m.d.comb += sequencer.writes_idle.eq(memory.write_idle & ~write.busy)
            self._fetch(m, sequencer)
        elif pim is not None:
            connect(m, pim.rows, drain.kv)
            m.d.comb += sequencer.writes_idle.eq(memory.write_idle & ~pim.writing)
        m.d.comb += [
            probe.valid.eq(drain.kv.valid & drain.kv.ready),
            probe.phase.eq(drain.kv.p.phase),
            probe.layer.eq(sequencer.layer),
            probe.row.eq(drain.kv.p.token),
            probe.chunk.eq(drain.kv.p.chunk),
            probe.data.eq(drain.kv.p.data),
        ]
        # A token is written when no key or value is on its way: the head comes after all layers.
        with m.If(answer.valid):
            m.d.comb += [
                memory.write.valid.eq(1),
                memory.write.p.stripe.eq(c.tokens_at + answer.p.position),
                memory.write.p.data.eq(answer.p.token),
                memory.write.p.strobe.eq(0xF),
                answer.ready.eq(memory.write.ready),
            ]
        if write is not None:
            with m.Else():
                m.d.comb += [
                    memory.write.valid.eq(write.write.valid),
                    memory.write.payload.eq(write.write.payload),
                    write.write.ready.eq(memory.write.ready),
                ]

    def _through_memory(self, m, drain, memory) -> KeyValueWriter:
        """Keys and values are written to memory and read back."""
        c = self._config
        writer = place(m, "kv_writer", KeyValueWriter(c))
        keys, values = place(m, "key_fetch", HeadFetch(c)), place(m, "value_fetch", HeadFetch(c))
        self._fetches = keys, values
        connect(m, writer.rows, drain.kv)
        connect(m, memory.k_desc, keys.descriptor)
        connect(m, memory.v_desc, values.descriptor)
        return writer

    def _fetch(self, m, sequencer) -> None:
        c = self._config
        for fetch, at in zip(self._fetches, (c.k_at, c.v_at), strict=True):
            m.d.comb += [
                fetch.start.eq(sequencer.fetch),
                fetch.stripe.eq(sequencer.kv_offset + at),
                fetch.count.eq(sequencer.fetch_stripes),
            ]

    def _result(self, m, sequencer, drain) -> None:
        c = self._config
        best = place(m, "argmax", ArgMax(lanes=c.lanes, index_bits=32))
        probe = place(m, "token_probe", Probe(3, 32))
        m.d.comb += [
            best.i.valid.eq(drain.logit.valid),
            drain.logit.ready.eq(best.i.ready),
            best.i.p.y.as_value().eq(drain.logit.p.y),
            best.i.p.limit.eq(drain.logit.p.limit),
            best.i.p.last.eq(drain.logit.p.last),
            sequencer.result.valid.eq(best.o.valid),
            sequencer.result.payload.eq(best.o.p.index),
            best.o.ready.eq(sequencer.result.ready),
            probe.valid.eq(best.o.valid & best.o.ready),
            probe.phase.eq(sequencer.phase),
            probe.layer.eq(sequencer.layer),
            probe.data.eq(best.o.p.index),
        ]
