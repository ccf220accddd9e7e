# SPDX-License-Identifier: Apache-2.0
"""How long a memory's commands take: validated sets of timings, in clock cycles."""

import math
from dataclasses import asdict, dataclass, fields, replace

__all__ = ["PRESETS", "PimTiming", "preset"]


@dataclass(frozen=True, kw_only=True)
class PimTiming:
    """Timings of one channel, in cycles of its command clock.

    Attributes
    ----------
    name : of the set.
    clock_ns : nanoseconds of a cycle.
    source : where the numbers come from.
    rl, wl : from RD, WR to the first beat of data.
    burst : cycles that a transfer of 64 bytes takes on the data bus.
    rcd_rd, rcd_wr, rcd_pim : from the activation to RD, WR, COMP.
    rp, ras, rc : precharge; from activation to precharge; from activation to activation.
    rrd_s, rrd_l : between activations of one rank; of one bank group.
    faw : the window with at most four activations of one rank.
    ccd_s, ccd_l : between column commands of one channel; of one bank group.
    wtr_s, wtr_l : from the end of written data to RD of the same rank; of the same bank group.
    wr, rtp : from the end of written data, from RD, to PRE.
    rfc, refi : length of a refresh; average distance of refreshes of one rank.
    comp : between two column computations; also what READRES waits behind one.
    fill : a group of fewer computations takes as long as this many.
    gwrite_column : cycles that the copy of 256 bits into the vector buffer takes.
    """

    name: str
    clock_ns: float
    source: str
    rl: int
    wl: int
    burst: int
    rcd_rd: int
    rcd_wr: int
    rcd_pim: int
    rp: int
    ras: int
    rc: int
    rrd_s: int
    rrd_l: int
    faw: int
    ccd_s: int
    ccd_l: int
    wtr_s: int
    wtr_l: int
    wr: int
    rtp: int
    rfc: int
    refi: int
    comp: int
    fill: int
    gwrite_column: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (not isinstance(value, int) or value < 1):
                raise ValueError(
                    f"Timings {self.name}: {field.name} must be a whole number of cycles, "
                    f"1 or more, not {value!r}"
                )
        if self.clock_ns <= 0:
            raise ValueError(f"Timings {self.name}: clock_ns must be above 0, not {self.clock_ns}")
        rules = (
            ("ras < rc", self.ras < self.rc),
            ("ras + rp <= rc", self.ras + self.rp <= self.rc),
            ("max(rcd_rd, rcd_wr, rcd_pim) <= ras", max(self.rcds) <= self.ras),
            ("min(rcd_rd, rcd_wr, rcd_pim) >= 2", min(self.rcds) >= 2),
            ("rrd_s <= rrd_l", self.rrd_s <= self.rrd_l),
            ("ccd_s <= ccd_l", self.ccd_s <= self.ccd_l),
            ("wtr_s <= wtr_l", self.wtr_s <= self.wtr_l),
            ("rrd_s <= faw", self.rrd_s <= self.faw),
            ("rfc + rc < refi", self.rfc + self.rc < self.refi),
        )
        for rule, holds in rules:
            if not holds:
                names = [n for n in asdict(self) if n in rule.replace("(", " ").replace(",", " ")
                         .replace(")", " ").split()]  # fmt: skip
                given = ", ".join(f"{n} = {getattr(self, n)}" for n in names)
                raise ValueError(f"Timings {self.name} contradict each other: {rule}, but {given}")

    def at_clock(self, clock_ns: float) -> "PimTiming":
        """The same memory behind a slower clock: times of the array become fewer cycles.

        What passes over a bus or through a pipeline (``rl``, ``wl``, ``burst``, ``ccd_s``, ``ccd_l``, ``comp``,
        ``fill``, ``gwrite_column``) keeps its cycles.

        Raises
        ------
        ValueError
            If the clock is faster than that of the set.
        """
        if clock_ns < self.clock_ns:
            raise ValueError(
                f"Timings {self.name} are for clocks of {self.clock_ns} ns or slower, not {clock_ns} ns"
            )

        def cycles(name: str) -> int:
            return math.ceil(getattr(self, name) * self.clock_ns / clock_ns - 1e-9)

        array = ("rp", "ras", "rrd_s", "rrd_l", "faw", "wtr_s", "wtr_l", "wr", "rtp", "rfc")
        found = {name: cycles(name) for name in array}
        found |= {name: max(2, cycles(name)) for name in ("rcd_rd", "rcd_wr", "rcd_pim")}
        found["rc"] = max(cycles("rc"), found["ras"] + found["rp"])
        found["refi"] = int(self.refi * self.clock_ns / clock_ns)
        return replace(
            self, name=f"{self.name}-{round(1000 / clock_ns)}mhz", clock_ns=clock_ns, **found
        )

    @property
    def rcds(self) -> tuple[int, int, int]:
        """Cycles from an activation to what reads or writes the row."""
        return self.rcd_rd, self.rcd_wr, self.rcd_pim

    @property
    def rtw(self) -> int:
        """From RD to WR: the bus turns around in one cycle."""
        return max(1, self.rl + self.burst + 1 - self.wl)

    @property
    def write_end(self) -> int:
        """From WR to the end of its data."""
        return self.wl + self.burst


PRESETS = {
    t.name: t
    for t in (
        PimTiming(
            name="neupims-hbm", clock_ns=1.0, source="configuration of the published simulator",
            rl=16, wl=6, burst=2, rcd_rd=14, rcd_wr=14, rcd_pim=14, rp=14, ras=34, rc=48,
            rrd_s=4, rrd_l=6, faw=30, ccd_s=1, ccd_l=2, wtr_s=6, wtr_l=8, wr=16, rtp=5,
            rfc=260, refi=3900, comp=2, fill=6, gwrite_column=3,
        ),
        PimTiming(
            name="hbm2", clock_ns=1.0,
            source="HBM-PIM simulator; rrd, wtr, wr, rtp are general knowledge",
            rl=20, wl=8, burst=2, rcd_rd=14, rcd_wr=10, rcd_pim=14, rp=14, ras=33, rc=47,
            rrd_s=4, rrd_l=6, faw=16, ccd_s=2, ccd_l=4, wtr_s=6, wtr_l=8, wr=16, rtp=5,
            rfc=350, refi=3900, comp=4, fill=6, gwrite_column=4,
        ),
        PimTiming(
            name="gddr6-aim", clock_ns=0.5,
            source="AiM simulator; rl, wl, rrd, wtr, wr, rtp, gwrite are general knowledge; no faw",
            rl=50, wl=16, burst=2, rcd_rd=36, rcd_wr=28, rcd_pim=52, rp=32, ras=54, rc=86,
            rrd_s=2, rrd_l=2, faw=2, ccd_s=2, ccd_l=2, wtr_s=9, wtr_l=11, wr=36, rtp=4,
            rfc=210, refi=3333, comp=2, fill=6, gwrite_column=2,
        ),
        PimTiming(
            name="lpddr5-pim", clock_ns=1.25, source="general knowledge, LPDDR5-6400",
            rl=17, wl=9, burst=4, rcd_rd=15, rcd_wr=15, rcd_pim=15, rp=15, ras=34, rc=49,
            rrd_s=4, rrd_l=4, faw=16, ccd_s=2, ccd_l=4, wtr_s=5, wtr_l=10, wr=28, rtp=6,
            rfc=224, refi=3125, comp=4, fill=6, gwrite_column=4,
        ),
    )
}  # fmt: skip
"""The sets that have a name."""


def preset(name: str) -> PimTiming:
    """The timings of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"There are no timings {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
