"""Selection of the operands of an engine beat."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.core.feeder import Source
from hw.unit import TemplateUnit

__all__ = ["OperandMux"]


class OperandMux(TemplateUnit):
    """Activations or probabilities, and the beat of one of three rings; values are turned by wires.

    A beat of values is ``[position][feature]`` in memory, and the engine wants ``[output][reduction]`` =
    ``[feature][position]``. Combinational. A template, because a simulator then turns only what is used.

    Members
    -------
    source : of the beat
    activations, probabilities : ``tokens * lanes`` bytes
    weights, keys, values : ``lanes * lanes`` bytes
    x, w : operands
    """

    template = "core/operands.sv.j2"

    def __init__(self, *, tokens: int, lanes: int) -> None:
        self._tokens, self._lanes = tokens, lanes
        x, w = 8 * tokens * lanes, 8 * lanes * lanes
        super().__init__(
            {
                "source": In(Source),
                "activations": In(x),
                "probabilities": In(x),
                "weights": In(w),
                "keys": In(w),
                "values": In(w),
                "x": Out(x),
                "w": Out(w),
            },
            {"t": tokens, "l": lanes},
        )

    def context(self) -> dict[str, Any]:
        return {
            "x_bits": 8 * self._tokens * self._lanes,
            "w_bits": 8 * self._lanes * self._lanes,
            "lanes": self._lanes,
            "is_keys": Source.KEYS.value,
            "is_values": Source.VALUES.value,
        }
