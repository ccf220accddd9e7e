# SPDX-License-Identifier: Apache-2.0
"""Gated activations: ``z * gate(z)`` with the gate from a table."""

from typing import Any

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out

from hw.sfu.tables import GATE_TABLE, concatenation
from hw.unit import TemplateUnit, Unit, place

__all__ = ["Activation", "ActivationPair"]


def _variant(bits: int, passing: bool) -> dict[str, int | str]:
    """What a name says of a unit that does not only give 8 bits."""
    variant: dict[str, int | str] = {} if bits == 8 else {"y": bits}
    return variant | {"p": 1} if passing else variant


class ActivationPair(TemplateUnit):
    """Two lanes of :class:`Activation`, which share one dual-ported table (one 18 Kbit block RAM).

    Latency
    -------
    ``latency`` enabled cycles from ``z`` to ``y``. ``multiplier`` is read ``multiplier_at`` and
    ``shift`` ``shift_at`` enabled cycles after ``z``.

    Parameters
    ----------
    gate : a key of ``GATE_TABLE``.
    bits : of a result, 8 or 16.
    passing : whether a word may pass by the table.

    Members
    -------
    advance : ``In(1)``; everything stands still while it is low.
    valid : ``In(1)``; accompanies ``z``.
    z : ``In``, two s16.
    plain : ``In(1)``, if ``passing``; accompanies ``z``: its gate is one.
    multiplier, shift : ``In(16)``, ``In(6)``.
    y : ``Out``, two numbers of ``bits``.
    """

    template = "sfu/activation_pair.sv.j2"
    latency = 7
    multiplier_at = 4
    shift_at = 5

    def __init__(self, gate: str, bits: int = 8, passing: bool = False) -> None:
        self.gate, self.bits, self.passing = gate, bits, passing
        super().__init__(
            {
                "advance": In(1),
                "valid": In(1),
                "z": In(ArrayLayout(signed(16), 2)),
                **({"plain": In(1)} if passing else {}),
                "multiplier": In(16),
                "shift": In(6),
                "y": Out(ArrayLayout(signed(bits), 2)),
            },
            {"": gate} | _variant(bits, passing),
        )

    def context(self) -> dict[str, Any]:
        return {
            "table": concatenation(GATE_TABLE[self.gate], 16),
            "bits": self.bits,
            "passing": self.passing,
        }


class Activation(Unit):
    """``z * gate(z)`` requantised to 8 or 16 bits, a word per cycle (``gated_activation``).

    The argument has 10 fraction bits; the gate is read at the nearest 1/64.

    Latency
    -------
    A word leaves ``latency`` cycles after it entered, if ``o`` is ready; while ``o`` holds a word
    that is not taken, everything waits.

    Parameters
    ----------
    lanes : channels of a word.
    tag_bits : width of what accompanies a word, at least 1.
    gate : a key of ``GATE_TABLE``.
    bits : of a result, 8 or 16.
    passing : whether words may pass among the others unchanged: ``z * multiplier / 2**shift`` is all that
        is done to a ``plain`` one.

    Members
    -------
    i : ``In(stream)`` of ``z`` (s16 per lane), ``multiplier`` (u16), ``shift`` (1 to 63), ``tag``, and
        ``plain``, if ``passing``.
    o : ``Out(stream)`` of ``y`` (``bits`` per lane) and ``tag``.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the gate is not known.
    """

    latency = ActivationPair.latency

    def __init__(
        self, lanes: int, tag_bits: int, gate: str = "gelu", bits: int = 8, passing: bool = False
    ) -> None:
        if lanes < 1:
            raise ValueError(f"A word needs at least 1 lane, not {lanes!r}")
        if tag_bits < 1:
            raise ValueError(f"A tag needs at least 1 bit, not {tag_bits!r}")
        if gate not in GATE_TABLE:
            raise ValueError(f"Gate {gate!r} is not known; known are {', '.join(GATE_TABLE)}")
        if GATE_TABLE[gate].min() < 0 or GATE_TABLE[gate].max() > 1 << 15:
            raise ValueError(f"Gate {gate!r} must lie between 0 and 1")
        if bits not in (8, 16):
            raise ValueError(f"A result has 8 or 16 bits, not {bits!r}")
        self.lanes, self.tag_bits, self.gate = lanes, tag_bits, gate
        self.bits, self.passing = bits, passing
        self.i_layout = StructLayout(
            {
                "z": ArrayLayout(signed(16), lanes),
                "multiplier": 16,
                "shift": 6,
                "tag": tag_bits,
            }
            | ({"plain": 1} if passing else {})
        )
        self.o_layout = StructLayout({"y": ArrayLayout(signed(bits), lanes), "tag": tag_bits})
        super().__init__(
            {
                "i": In(stream.Signature(self.i_layout)),
                "o": Out(stream.Signature(self.o_layout)),
            },
            {"l": lanes, "tag": tag_bits, "": gate} | _variant(bits, passing),
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        advance = Signal()
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
        ]

        def delayed(value: Any, cycles: int, name: str) -> Any:
            for k in range(cycles):
                register = Signal(len(value), name=f"{name}_{k + 1}")
                with m.If(advance):
                    m.d.sync += register.eq(value)
                value = register
            return value

        payload = self.i.payload
        multiplier = delayed(payload.multiplier, ActivationPair.multiplier_at, "multiplier")
        shift = delayed(payload.shift, ActivationPair.shift_at, "shift")
        m.d.comb += [
            self.o.valid.eq(delayed(self.i.valid, self.latency, "valid")),
            self.o.payload.tag.eq(delayed(payload.tag, self.latency, "tag")),
        ]
        for k in range(0, self.lanes, 2):
            pair = place(m, f"pair_{k // 2}", ActivationPair(self.gate, self.bits, self.passing))
            for lane in range(k, min(k + 2, self.lanes)):
                m.d.comb += [
                    pair.z[lane - k].eq(payload.z[lane]),
                    self.o.payload.y[lane].eq(pair.y[lane - k]),
                ]
            m.d.comb += [
                pair.advance.eq(advance),
                pair.valid.eq(self.i.valid),
                pair.multiplier.eq(multiplier),
                pair.shift.eq(shift),
            ]
            if self.passing:
                m.d.comb += pair.plain.eq(payload.plain)
        return m
