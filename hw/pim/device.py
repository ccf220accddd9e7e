# SPDX-License-Identifier: Apache-2.0
"""The memory: banks with multipliers, and the vector that all of them share."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.pim.commands import Cmd, command_layout, index_bits, slices
from hw.pim.config import BURST_BITS, PimConfig
from hw.pim.mac import PimMac
from hw.unit import TemplateUnit, Unit

__all__ = ["PimBank", "PimDevice"]


def _common(c: PimConfig) -> dict[str, Any]:
    per_burst = BURST_BITS // c.col_bits
    return {
        "banks": c.banks, "rows": c.rows, "row_bits": index_bits(c.rows), "bursts": c.bursts,
        "burst_bits": index_bits(c.bursts), "col_index": index_bits(c.cols), "col_bits": c.col_bits,
        "lanes": c.lanes, "res_bits": c.res_bits, "dual": c.dual,
        "nb": 1 + c.buffers if c.dual else 1, "per_burst": per_burst,
        "sub_bits": per_burst.bit_length() - 1, "t": c.timing,
    }  # fmt: skip


class PimBank(TemplateUnit):
    """The array of one bank, its row buffers and its multipliers.

    In the variant ``registers`` a buffer holds its row from tRCD after the activation until the
    precharge, which writes the reads' buffer back; outside that time it holds a pattern, so that a
    command at the wrong time shows in the data. In ``block_ram`` a buffer is a row number.

    Members
    -------
    act, close : ``In``, a bit for each buffer
        Open ``act_row``; close.
    rd, wr, burst, wdata, wmask : ``In``
        Of the row in buffer 0; bytes of ``wmask`` are written; ``rdata`` follows a cycle later.
    comp, comp_buf, comp_col, first, mask : ``In``
        A step of the multipliers; ``vector`` belongs to it and comes one cycle later.
    acc : ``Out``
        Includes a step ``latency + 1`` cycles after its ``comp``.
    mem_open, mem_row : ``Out``
        What buffer 0 holds.
    """

    template = "pim/bank.sv.j2"
    shared = True

    def __init__(self, config: PimConfig) -> None:
        self._config = c = config
        self._mac = PimMac(c)
        v = _common(c)
        super().__init__(
            {
                "act": In(v["nb"]), "act_row": In(v["row_bits"]), "close": In(v["nb"]),
                "rd": In(1), "wr": In(1), "burst": In(v["burst_bits"]), "wdata": In(BURST_BITS),
                "wmask": In(BURST_BITS // 8),
                "rdata": Out(BURST_BITS), "comp": In(1), "comp_buf": In(1),
                "comp_col": In(v["col_index"]), "first": In(1), "mask": In(c.lanes),
                "vector": In(c.col_bits), "acc": Out(c.res_bits), "mem_open": Out(1),
                "mem_row": Out(v["row_bits"]),
            },
            {"r": c.rows, "p": c.page_bytes, "l": c.lanes, "f": c.fmt.replace("-", "_") + "_",
             "n": v["nb"], "m": int(c.array == "block_ram"), "t": "_" + c.timing.name.replace("-", "_")},
        )  # fmt: skip

    @property
    def latency(self) -> int:
        """Cycles of the multipliers."""
        return self._mac.latency

    def parts(self) -> list[Unit]:
        return [self._mac]

    def context(self) -> dict[str, Any]:
        c, t = self._config, self._config.timing
        mem = min(t.rcd_rd, t.rcd_wr)
        rcds = [mem, t.rcd_pim, t.rcd_pim] if c.dual else [min(t.rcds)]
        return _common(c) | {
            "array": c.array, "mac": self._mac.module_name, "rcds": rcds, "rcd": rcds[0],
            "rcd_bits": index_bits(max(rcds) + 1),
        }  # fmt: skip


class PimDevice(TemplateUnit):
    """All banks of a channel, the vector buffer and the composite sequencer.

    A command acts in the cycle in which it is valid. Reads come out ``timing.rl`` cycles after RD,
    results as many after READRES; a composite command of k steps includes a READRES
    ``comp * max(k, fill)`` cycles after itself.

    Members
    -------
    ca_valid, ca : ``In``
        A command (:func:`hw.pim.commands.command_layout`).
    ca_data, ca_mask : ``In(512)``, ``In(64)``
        What WR and WRGB write; of WR the bytes whose bit is set.
    rd_valid, rd_data : ``Out``
        A burst, in the cycle of its first beat.
    res_valid, res_data : ``Out``
        A result of each bank, bank 0 in the low bits.
    mem_open, mem_row : ``Out``
        State of the row buffers that serve reads and writes.
    """

    template = "pim/device.sv.j2"

    def __init__(self, config: PimConfig) -> None:
        self._config = c = config
        self._bank = PimBank(c)
        self._layout = command_layout(c)
        super().__init__(
            {
                "ca_valid": In(1), "ca": In(self._layout), "ca_data": In(BURST_BITS),
                "ca_mask": In(BURST_BITS // 8),
                "rd_valid": Out(1), "rd_data": Out(BURST_BITS), "res_valid": Out(1),
                "res_data": Out(c.banks * c.res_bits), "mem_open": Out(c.banks),
                "mem_row": Out(c.banks * index_bits(c.rows)),
            },
            c.key,
        )  # fmt: skip

    def parts(self) -> list[Unit]:
        return [self._bank]

    def context(self) -> dict[str, Any]:
        c, t = self._config, self._config.timing
        step = (c.gwrite - 4) // c.bursts
        return _common(c) | {
            "ca_bits": self._layout.size, "at": slices(self._layout, "ca"),
            "cmds": {cmd.name.lower(): int(cmd) for cmd in Cmd}, "bank_bits": index_bits(c.banks),
            "entries": c.entries, "entry_bits": index_bits(c.entries), "k_bits": index_bits(c.cols + 1),
            "tail_bits": index_bits(c.lanes), "fill": t.fill,
            "wait_bits": index_bits(t.comp * max(c.cols, t.fill) + 1), "step": step,
            "gwrite_bits": index_bits(step), "vector_bits": index_bits(c.entries * c.bursts),
            "banks_per_rank": c.banks_per_rank, "act_group": c.act_group,
            "rd_depth": index_bits(t.rl // t.burst + 2), "bank": self._bank.module_name, "latency": self._bank.latency,
        }  # fmt: skip
