# SPDX-License-Identifier: Apache-2.0
"""What a beat of a convolution reads of a few rows of an image."""

from dataclasses import dataclass
from typing import Any

from amaranth.lib.wiring import In, Out

from hw.kernel.memory import address_bits
from hw.unit import TemplateUnit

__all__ = ["WindowKind", "WindowSelect"]


@dataclass(frozen=True)
class WindowKind:
    """Elements of a beat: ``rows`` times ``columns`` of them, from column ``-left`` of an output on.

    ``double``: each pixel counts twice; ``odd``: the outputs are the second half of those that a word makes then.
    """

    rows: int
    columns: int
    left: int
    double: bool = False
    odd: bool = False


class WindowSelect(TemplateUnit):
    """Makes the engine's second operand of rows of an image; combinational.

    Parameters
    ----------
    outputs, reduce, bits : of the operand.
    left, right, groups : of the :class:`~hw.kernel.memory.RowMemory` that it reads.
    kinds : those that occur.
    name : of the core.

    Members
    -------
    kind : which one.
    banks, valid : of each row of the beat the bank where it is, and whether it is inside of the image.
    no_prior, no_center, no_behind : zeros instead of what lies outside.
    center, prior, behind : of the memory.
    w : element r of output o is ``w[o*reduce + r]``.
    """

    template = "kernel/window.sv.j2"

    def __init__(
        self, *, outputs: int, reduce: int, bits: int, left: int, right: int, groups: int,
        kinds: tuple[WindowKind, ...], name: str,
    ) -> None:  # fmt: skip
        self.kinds = kinds
        self._sizes = {
            "outputs": outputs, "reduce": reduce, "bits": bits, "left": left, "right": right, "groups": groups,
            "kind_bits": address_bits(len(kinds)), "bank_bits": address_bits(groups),
        }  # fmt: skip
        super().__init__(
            {
                "kind": In(self._sizes["kind_bits"]), "banks": In(groups * self._sizes["bank_bits"]),
                "valid": In(groups), "no_prior": In(1), "no_center": In(1), "no_behind": In(1),
                "center": In(groups * outputs * bits), "prior": In(max(1, groups * left * bits)),
                "behind": In(max(1, groups * right * bits)), "w": Out(outputs * reduce * bits),
            },
            {"": name},
        )  # fmt: skip

    def context(self) -> dict[str, Any]:
        return self._sizes | {"kinds": self.kinds}
