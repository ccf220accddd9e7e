# SPDX-License-Identifier: Apache-2.0
"""The sequencer: passes, layers and steps of the program, in the order that the schedule decided."""

from typing import Any

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hw.core.config import CoreConfig
from hw.core.program import Op, Program, encode, step_layout
from hw.unit import Unit

__all__ = ["Sequencer"]


class Sequencer(Unit):
    """Plays the program for each pass: prompt chunks, then one token after the other.

    The next step is prefetched, so that a step starts the cycle after everything that it waits for is done.
    A second machine runs ahead with the descriptors of the weight stream.

    Members
    -------
    start, ready, done, idle : ``ap_ctrl_hs``: start is a level, ready and done are pulses
    prompt, generate, position, layers : arguments, see the register map
    generated, token : progress: tokens generated so far and the last one
    length, past, layer, kv_offset : of the pass and layer that is played; kv_offset in stripes
    phase : index of the step that was started last
    step : to the feeder, which is playing while ``feeder_busy``
    norm_valid, norm_ready, norm_last, norm_busy : to the LayerNorm unit; last: only the last token
    embed_start, embed_prompt, embed_token, embed_busy : to the embedding
    pushed, retired, kv_pushed, kv_retired, writes_idle : what is still on its way
    fetch, fetch_stripes : read keys and values of the layer, so many stripes a head
    weights : descriptors of the weight stream
    result : the argmax of a head
    answer : a generated token and its position, to be written to memory
    """

    def __init__(self, config: CoreConfig, program: Program) -> None:
        c = self._config = config
        self._program = program
        super().__init__(
            {
                "start": In(1), "ready": Out(1), "done": Out(1), "idle": Out(1),
                "prompt": In(16), "generate": In(16), "position": In(16), "layers": In(8),
                "generated": Out(16), "token": Out(32),
                "length": Out(range(c.chunk + 1)), "past": Out(range(c.context + 1)),
                "layer": Out(8), "kv_offset": Out(32), "phase": Out(8),
                "step": Out(stream.Signature(step_layout(c))), "feeder_busy": In(1),
                "norm_valid": Out(1), "norm_ready": In(1), "norm_last": Out(1), "norm_busy": In(1),
                "embed_start": Out(1), "embed_prompt": Out(1), "embed_token": Out(32), "embed_busy": In(1),
                "pushed": In(1), "retired": In(1), "kv_pushed": In(1), "kv_retired": In(1), "writes_idle": In(1),
                "fetch": Out(1), "fetch_stripes": Out(32),
                "weights": Out(stream.Signature(data.StructLayout({"stripe": 32, "count": 32}))),
                "result": In(stream.Signature(32)),
                "answer": Out(stream.Signature(data.StructLayout({"position": 16, "token": 32}))),
            },
            {"d": c.width, "l": c.layers, "n": len(program.steps), "t": c.tokens, "w": c.lanes},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        layout, steps = step_layout(c), self._program.steps
        rom = Array(
            data.View(layout, layout.const(encode(step, k, c)).as_value())
            for k, step in enumerate(steps)
        )
        counter, following = Signal(range(len(steps))), Signal(range(len(steps)))
        fetched = Signal(layout)
        remaining = Signal(16)
        head_pass = Signal()

        # -- what is on its way
        tiles, kv_tiles = Signal(16), Signal(16)
        m.d.sync += [
            tiles.eq(tiles + self.pushed - self.retired),
            kv_tiles.eq(kv_tiles + self.kv_pushed - self.kv_retired),
        ]
        quiet = Signal()
        m.d.comb += quiet.eq(~self.feeder_busy & (tiles == 0) & ~self.norm_busy & ~self.embed_busy)

        # -- keys and values may be read back once the step that wrote the last of them has landed
        fetch_wait, fetch_armed = Signal(), Signal()
        chunks = Signal(range(c.context_chunks + 1))
        m.d.comb += [
            chunks.eq((self.past + self.length + (c.lanes - 1)) >> (c.lanes - 1).bit_length()),
            self.fetch_stripes.eq(chunks * (c.head_words * c.beat_stripes)),
            self.fetch.eq(fetch_armed & (kv_tiles == 0) & self.writes_idle),
        ]
        with m.If(self.fetch):
            m.d.sync += [fetch_wait.eq(0), fetch_armed.eq(0)]

        m.d.comb += [
            self.step.payload.eq(fetched),
            *self._of_layer(m, counter),
            self.norm_last.eq(fetched.last_token),
            self.answer.p.position.eq(self.past + self.length),
            self.answer.p.token.eq(self.token),
        ]
        issue, may = Signal(), Signal()
        more_layers = Signal()
        m.d.comb += [
            may.eq(quiet | ~fetched.wait),
            more_layers.eq(self.layer != self.layers - 1),
            following.eq(
                Mux(
                    fetched.layer_end & more_layers,
                    self._program.layer_start,
                    Mux(counter == len(steps) - 1, 0, counter + 1),
                )
            ),
        ]
        with m.If(issue):
            m.d.sync += [
                self.phase.eq(fetched.phase),
                # A fetch may start in this very cycle; it must not start again in the next.
                fetch_armed.eq(fetch_wait & ~self.fetch),
            ]
            with m.If(fetched.fetch):
                m.d.sync += [fetch_wait.eq(1), fetch_armed.eq(0)]

        with m.FSM() as fsm:
            m.d.comb += self.idle.eq(fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.comb += self.ready.eq(1)
                    m.d.sync += [
                        remaining.eq(self.prompt),
                        self.past.eq(self.position),
                        self.generated.eq(0),
                        self.embed_prompt.eq(1),
                    ]
                    m.next = "PASS"
            with m.State("PASS"):
                with m.If(remaining > c.chunk):
                    m.d.sync += [self.length.eq(c.chunk), head_pass.eq(0)]
                with m.Elif(remaining != 0):
                    m.d.sync += [self.length.eq(remaining), head_pass.eq(self.generate != 0)]
                with m.Else():
                    m.d.sync += [self.length.eq(1), head_pass.eq(1)]
                m.d.sync += [
                    counter.eq(0), fetched.eq(rom[0]), self.layer.eq(0), self.kv_offset.eq(0),
                    self.embed_token.eq(self.token),
                ]  # fmt: skip
                m.next = "PLAY"
            with m.State("PLAY"):
                with m.Switch(fetched.op):
                    with m.Case(Op.EMBED):
                        m.d.comb += [self.embed_start.eq(may), issue.eq(may)]
                    with m.Case(Op.NORM):
                        m.d.comb += [
                            self.step.valid.eq(may & self.norm_ready),
                            self.norm_valid.eq(may & self.step.ready),
                            issue.eq(may & self.step.ready & self.norm_ready),
                        ]
                    with m.Default():
                        m.d.comb += [self.step.valid.eq(may), issue.eq(may & self.step.ready)]
                with m.If(issue):
                    m.d.sync += [counter.eq(following), fetched.eq(rom[following])]
                    with m.If(fetched.layer_end):
                        m.next = "LAYER"
                    with m.Elif(counter == len(steps) - 1):
                        m.next = "SETTLE"
            with m.State("LAYER"):
                with m.If(quiet):
                    with m.If(more_layers):
                        m.d.sync += [
                            self.layer.eq(self.layer + 1),
                            self.kv_offset.eq(self.kv_offset + c.kv_layer_stripes),
                        ]
                        m.next = "PLAY"
                    with m.Elif(head_pass):
                        m.next = "PLAY"
                    with m.Else():
                        m.next = "PASS END"
            with m.State("SETTLE"):
                with m.If(quiet):
                    m.next = "PASS END"
            with m.State("PASS END"):
                with m.If(head_pass):
                    m.d.comb += self.result.ready.eq(1)
                    with m.If(self.result.valid):
                        m.d.sync += [
                            self.token.eq(self.result.payload),
                            self.generated.eq(self.generated + 1),
                        ]
                        m.next = "ANSWER"
                with m.Else():
                    m.next = "NEXT"
            with m.State("ANSWER"):
                m.d.comb += self.answer.valid.eq(1)
                with m.If(self.answer.ready):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += [
                    self.past.eq(self.past + self.length),
                    remaining.eq(Mux(remaining == 0, 0, remaining - self.length)),
                ]
                last_prompt = (remaining == 0) | (remaining == self.length)
                with m.If(last_prompt):
                    m.d.sync += self.embed_prompt.eq(0)
                with m.If(last_prompt & (self.generated == self.generate)):
                    m.next = "FINISH"
                with m.Else():
                    m.next = "PASS"
            with m.State("FINISH"):
                with m.If(self.writes_idle & quiet):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

        # -- the weight stream, pass by pass, as far ahead as the rings have room
        ahead, asked, count = Signal(16), Signal(16), Signal(32)
        with m.FSM(name="weights"):
            with m.State("IDLE"):
                m.d.sync += [
                    ahead.eq(self.prompt),
                    asked.eq(0),
                    count.eq(
                        Array(Const(c.stream_stripes(n)) for n in range(1, c.layers + 1))[
                            self.layers - 1
                        ]
                        if c.layer_ends
                        else self.layers * Const(c.layer_stripes)
                    ),
                ]
                with m.If(self.ready):
                    m.next = "LAYERS"
            with m.State("LAYERS"):
                m.d.comb += [
                    self.weights.valid.eq(1),
                    self.weights.p.stripe.eq(c.weights_at),
                    self.weights.p.count.eq(count),
                ]
                with m.If(self.weights.ready):
                    with m.If(ahead > c.chunk):
                        m.d.sync += ahead.eq(ahead - c.chunk)
                    with m.Elif(self.generate == 0):
                        m.next = "IDLE"
                    with m.Else():
                        m.d.sync += ahead.eq(0)
                        m.next = "HEAD"
            with m.State("HEAD"):
                m.d.comb += [
                    self.weights.valid.eq(1),
                    self.weights.p.stripe.eq(c.head_at),
                    self.weights.p.count.eq(c.head_stripes),
                ]
                with m.If(self.weights.ready):
                    m.d.sync += asked.eq(asked + 1)
                    with m.If(asked + 1 == self.generate):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "LAYERS"
        return m

    def _of_layer(self, m: Module, counter: Signal) -> list:
        """The sizes of a step's weights in its layer, if layers differ."""
        if not self._program.layers:
            return []
        found = []
        for field in ("k_words", *(("terms", "pad") if self._config.stream.compressed else ())):
            of_layers = Array(
                Array(Const(encode(step, 0, self._config)[field], 12) for step in steps)[counter]
                for steps in self._program.layers
            )
            found.append(self.step.p[field].eq(of_layers[self.layer]))
        return found
