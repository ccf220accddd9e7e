# SPDX-License-Identifier: Apache-2.0
"""A PIM channel: controller, banks, and the checker that watches both."""

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.pim.checker import PimChecker
from hw.pim.commands import command_layout, pim_layout, request_layout
from hw.pim.config import BURST_BITS, PimConfig
from hw.pim.control import PimControl
from hw.pim.device import PimDevice
from hw.unit import Unit, place

__all__ = ["PimChannel"]


class PimChannel(Unit):
    """Banks that compute, behind two queues of commands.

    Members
    -------
    pim : ``In(stream)``
        Commands of the multipliers (:class:`hw.pim.control.PimControl`).
    mem : ``In(stream)``
        Reads and writes.
    restart : ``In(1)``
        The refreshes begin anew.
    rd_valid, rd_data : ``Out``
        What was read, in order.
    res_valid, res_data : ``Out``
        Results of a READRES, in order: a number of each bank.
    ca_valid, ca : ``Out``
        The command of this cycle, for a trace.
    fault : ``Out``
        The first refused command.
    """

    def __init__(self, config: PimConfig) -> None:
        self._config = c = config
        super().__init__(
            {
                "pim": In(stream.Signature(pim_layout(c))),
                "mem": In(stream.Signature(request_layout(c))), "restart": In(1),
                "rd_valid": Out(1), "rd_data": Out(BURST_BITS), "res_valid": Out(1),
                "res_data": Out(c.banks * c.res_bits), "ca_valid": Out(1),
                "ca": Out(command_layout(c)), "fault": Out(3),
            },
            c.key,
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        control = place(m, "control", PimControl(self._config))
        device = place(m, "device", PimDevice(self._config))
        checker = place(m, "checker", PimChecker(self._config))
        connect(m, flipped(self.pim), control.pim)
        connect(m, flipped(self.mem), control.mem)
        for unit in (device, checker):
            m.d.comb += [unit.ca_valid.eq(control.ca_valid), unit.ca.eq(control.ca)]
        m.d.comb += [
            device.ca_data.eq(control.ca_data), device.ca_mask.eq(control.ca_mask),
            self.ca_valid.eq(control.ca_valid), self.ca.eq(control.ca), control.restart.eq(self.restart),
            self.fault.eq(control.fault),
            self.rd_valid.eq(device.rd_valid), self.rd_data.eq(device.rd_data),
            self.res_valid.eq(device.res_valid), self.res_data.eq(device.res_data),
            checker.begins.eq(control.begins), checker.promise.eq(control.promise),
            checker.active.eq(control.active), checker.debt.eq(control.debt),
            checker.pim_valid.eq(self.pim.valid),
            checker.mem_waits.eq(self.mem.valid & ~self.mem.ready),
            checker.pim_waits.eq(self.pim.valid & ~self.pim.ready),
            checker.mem_open.eq(device.mem_open), checker.mem_row.eq(device.mem_row),
        ]  # fmt: skip
        return m
