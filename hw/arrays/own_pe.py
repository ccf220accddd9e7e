# SPDX-License-Identifier: Apache-2.0
"""Processing elements that a user brings: a dot product of its own, under a name, in the array ``tree``."""

import re
from typing import Any, ClassVar

from amaranth.hdl import signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arrays.engine import PE_ENCODINGS, Resources, accumulator_bits
from hw.unit import Unit

__all__ = ["OWN_PES", "DotPe"]

OWN_PES: dict[str, type["DotPe"]] = {}
"""The elements that were defined, by name."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class DotPe(Unit):
    """The sum of ``lanes`` products a cycle: a subclass with a ``name`` is an element of ``tree`` from then on.

    A subclass says how many registers lie between operands and sum, and describes them. They move only
    while ``run`` is 1; the array keeps the accumulators, and drops what it did not ask for.

    Parameters
    ----------
    lanes : products a cycle
    x_bits, w_bits : of activations and weights, signed

    Members
    -------
    x, w : ``In(lanes * x_bits)``, ``In(lanes * w_bits)``; the first number lowest
    run : ``In(1)``
    sum : ``Out(signed(sum_bits))``, ``latency`` cycles later

    Raises
    ------
    TypeError
        When a class is defined whose name is no word of lower-case letters, digits and underscores, or is taken by
        another class, or whose latency is less than 1.
    """

    name: ClassVar[str]
    latency: ClassVar[int]
    shared = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        name = cls.__dict__.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TypeError(
                f'{cls.__name__} needs a name such as "shift_add" (lower-case words), not {name!r}'
            )
        known = OWN_PES.get(name)
        if name in PE_ENCODINGS and (known is None or known.__qualname__ != cls.__qualname__):
            raise TypeError(f"{cls.__name__}: the name {name!r} is taken")
        if not isinstance(cls.latency, int) or cls.latency < 1:
            raise TypeError(f"{cls.__name__}: latency must be at least 1, not {cls.latency!r}")
        OWN_PES[name], PE_ENCODINGS[name] = cls, ()

    def __init__(self, *, lanes: int, x_bits: int, w_bits: int) -> None:
        self.lanes, self.x_bits, self.w_bits = lanes, x_bits, w_bits
        self.sum_bits = accumulator_bits(lanes, x_bits, w_bits)
        super().__init__(
            wiring.Signature(
                {
                    "x": In(lanes * x_bits),
                    "w": In(lanes * w_bits),
                    "run": In(1),
                    "sum": Out(signed(self.sum_bits)),
                }
            ),
            {"l": lanes, "x": x_bits, "w": w_bits},
        )

    def activation(self, r: int) -> Any:
        """Activation ``r``, signed."""
        return self.x.word_select(r, self.x_bits).as_signed()

    def weight(self, r: int) -> Any:
        """Weight ``r``, signed."""
        return self.w.word_select(r, self.w_bits).as_signed()

    def resources(self) -> Resources:
        """An estimate of what it takes, for the plan and the report; ``hwgen synth`` counts."""
        raise NotImplementedError(f"{type(self).__name__} must estimate its resources")
