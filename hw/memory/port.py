# SPDX-License-Identifier: Apache-2.0
"""One memory port: an AXI4 initiator with prefetching rings, a stream and single-word writes."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from hw.memory.axi import Axi4Signature
from hw.memory.buffers import Queue, RingMemory
from hw.memory.burst import BurstCutter, Descriptor
from hw.unit import Unit, place

__all__ = ["MemoryPort", "PortShape", "Release", "SidePlane", "SideShape", "write_layout"]

PAGE = 4096
"""Bytes; no AXI burst crosses a multiple of it, and base addresses are multiples of it."""

SHALLOW = 128
"""Rows up to which a plane is made of LUTs: it is wide, and would leave block RAM almost empty."""

RINGS = ("w", "k", "v")

Release = Signature({"valid": Out(1), "count": Out(16)})
"""``count`` more beats, in order, are no longer needed."""


def write_layout(data_bytes: int) -> data.StructLayout:
    """One write: ``data`` to stripe ``stripe``, only the bytes whose strobe is set."""
    return data.StructLayout({"stripe": 32, "data": 8 * data_bytes, "strobe": data_bytes})


@dataclass(frozen=True)
class SidePlane:
    """Words of one kind that come ahead of the beats of a period.

    Parameters
    ----------
    name : a letter
    stripes : words of a period
    lanes : words of a row, which is read at once; divides ``stripes``
    """

    name: str
    stripes: int
    lanes: int

    def __post_init__(self) -> None:
        for what in ("stripes", "lanes"):
            value = getattr(self, what)
            if value < 1 or value & (value - 1):
                raise ValueError(
                    f"{what} of plane {self.name} must be a power of two, not {value!r}"
                )


@dataclass(frozen=True)
class SideShape:
    """What travels in ring W beside its beats: a period is the words of each plane, then ``beats`` beats.

    Parameters
    ----------
    beats : of a period, a power of two
    planes : what comes before them, in this order; at least one
    """

    beats: int
    planes: tuple[SidePlane, ...]

    def __post_init__(self) -> None:
        if self.beats < 1 or self.beats & (self.beats - 1) or not self.planes:
            raise ValueError(
                f"A period must have a power of two of beats and a plane, not {self!r}"
            )

    @property
    def key(self) -> dict[str, int | str]:
        """The sizes as they appear in the name of a module."""
        return {"q": self.beats, "": "".join(f"{p.name}{p.stripes}x{p.lanes}" for p in self.planes)}


@dataclass(frozen=True, kw_only=True)
class PortShape:
    """Sizes of a memory port.

    Parameters
    ----------
    port_bytes : bytes of a word, a power of two
    beat_stripes : words of a beat
    w_depth, k_depth, v_depth : beats of each ring, a power of two
    e_depth : words of the queue before ``e``, a power of two
    max_burst : words of the longest burst, a power of two; 4096 bytes are never exceeded
    outstanding : read bursts requested and not received, a power of two
    flight : words in flight from which on W requests no more; full bandwidth needs the memory's
        latency in cycles plus ``max_burst``
    writes : writes not acknowledged, a power of two
    descriptors : descriptors queued for each client, a power of two
    side : what travels in ring W beside its beats, see :class:`SideShape`; None: nothing
    w_ultra : ring W is of ultra RAM

    Raises
    ------
    ValueError
        If a size is not possible.
    """

    port_bytes: int
    beat_stripes: int
    w_depth: int
    k_depth: int
    v_depth: int
    e_depth: int = 64
    max_burst: int = 64
    outstanding: int = 64
    flight: int = 256
    writes: int = 16
    descriptors: int = 8
    side: SideShape | None = None
    w_ultra: bool = False

    def __post_init__(self) -> None:
        most = {"port_bytes": 128} | {f"{name}_depth": 1 << 15 for name in "wkve"}
        queues = ("max_burst", "outstanding", "writes", "descriptors")
        for name, limit in (most | dict.fromkeys(queues, 256)).items():
            value = getattr(self, name)
            least = 1 if name in ("port_bytes", "max_burst") else 2
            if not least <= value <= limit or value & (value - 1):
                raise ValueError(
                    f"{name} must be a power of two from {least} to {limit}, not {value!r}"
                )
        if self.beat_stripes < 1:
            raise ValueError(f"beat_stripes must be at least 1, not {self.beat_stripes!r}")
        if self.flight < self.limits["w"]:
            raise ValueError(
                f"flight must be at least a burst of W, {self.limits['w']}, not {self.flight!r}"
            )

    @property
    def depths(self) -> dict[str, int]:
        """Beats of each ring."""
        return {"w": self.w_depth, "k": self.k_depth, "v": self.v_depth}

    @property
    def capacity(self) -> dict[str, int]:
        """Words of the buffer of each read client, in the order of their priority."""
        rings = {name: self.depths[name] * self.beat_stripes for name in ("k", "v", "w")}
        if self.side is not None:
            rings["w"] = self.periods * self.period_stripes
        return {"e": self.e_depth} | rings

    @property
    def periods(self) -> int:
        """Periods that ring W holds, if there is something beside its beats."""
        return self.w_depth // self.side.beats if self.side is not None else 0

    @property
    def period_stripes(self) -> int:
        """Words of a period of ring W."""
        if self.side is None:
            return self.beat_stripes
        return sum(p.stripes for p in self.side.planes) + self.side.beats * self.beat_stripes

    def side_rows(self, plane: SidePlane) -> int:
        """Rows of the memory of a plane."""
        return self.periods * plane.stripes // plane.lanes

    @property
    def limits(self) -> dict[str, int]:
        """Words of the longest burst of each read client."""
        longest = min(self.max_burst, PAGE // self.port_bytes)
        return {
            name: min(longest, 1 << max(0, (words // 4).bit_length() - 1))
            for name, words in self.capacity.items()
        }

    @property
    def window(self) -> dict[str, int]:
        """Beats of each ring that a consumer may hold, waiting for the last of them."""
        found = {
            name: depth - -(-(self.limits[name] - 1) // self.beat_stripes)
            for name, depth in self.depths.items()
        }
        if (
            self.side is not None
        ):  # whole periods are released, and the first may be held for its last beat
            whole = (self.capacity["w"] - self.limits["w"] + 1) // self.period_stripes
            found["w"] = max(0, whole - 1) * self.side.beats
        return found

    @property
    def key(self) -> dict[str, int | str]:
        """The sizes as they appear in the name of a module."""
        return {
            "b": self.port_bytes,
            "m": self.beat_stripes,
            "w": self.w_depth,
            "k": self.k_depth,
            "v": self.v_depth,
            "e": self.e_depth,
            "l": self.max_burst,
            "o": self.outstanding,
            "f": self.flight,
            "a": self.writes,
            "d": self.descriptors,
            **({} if self.side is None else self.side.key),
            **({"u": 1} if self.w_ultra else {}),
        }


class MemoryPort(Unit):
    """Reads and writes one port's share of the stripes, ``port_bytes`` of each.

    Four clients read: the rings W, K and V, and the stream E. A burst is requested only when its
    client's buffer has room for it, so ``rready`` is always high and no client can block another.
    Among those with room, E goes before K before V before W, burst by burst; a burst can be
    requested in every cycle. W, the bulk, also keeps at most ``flight`` words requested and not
    received, so that the memory has no long queue in front of the others.

    A ring holds ``depth`` beats of ``beat_stripes`` words each, whatever descriptors they came
    from. Bursts stay within aligned blocks of ``shape.limits[client]`` words, at most a quarter of
    the ring: a consumer may therefore wait for a beat while it still holds up to
    ``shape.window[client]`` beats, this one included.

    With ``shape.side`` the descriptors of W are of whole periods. The words of each plane go to a memory of
    their own, and what is released are whole periods.

    Latency
    -------
    From an empty port, ``arvalid`` rises ``request_latency`` cycles after a descriptor was taken. A
    word counts in ``written`` (and can be read) two cycles after its transfer on ``axi``, and is on
    ``e`` two cycles after it.

    Parameters
    ----------
    shape : its sizes

    Members
    -------
    axi : ``Out(Axi4Signature(8 * port_bytes))``
        The memory.
    base : ``In(64)``
        Address of stripe 0, a multiple of 4096 (the low bits are taken as 0); constant while
        anything is busy.
    w_desc, k_desc, v_desc, e_desc : ``In(stream.Signature(Descriptor))``
        What each client reads.
    w, k, v : ``Out(Signature)``
        A ring: ``written`` beats so far, modulo twice its depth, ``rd_en`` and ``rd_row`` to read a
        row, ``rd_data`` one cycle later, ``release``. With ``shape.side``, W also has ``x_row`` and
        ``x_data`` for every plane x, read at the same time, and ``release`` counts periods.
    e : ``Out(stream.Signature(8 * port_bytes))``
        Words of E.
    write : ``In(stream.Signature(write_layout(port_bytes)))``
        Writes; with no strobe set they end here. Nothing orders them with reads.
    write_idle : ``Out(1)``
        Every write so far has been acknowledged.
    error : ``Out(1)``
        Since reset, some response was not OKAY.
    """

    shared = True
    request_latency = 4

    def __init__(self, shape: PortShape) -> None:
        self._shape = shape
        port_bits = 8 * shape.port_bytes

        def ring(name: str) -> Signature:
            depth = shape.depths[name]
            planes = shape.side.planes if name == "w" and shape.side is not None else ()
            return Signature(
                {
                    "written": Out(depth.bit_length()),
                    "rd_en": In(1),
                    "rd_row": In(depth.bit_length() - 1),
                    "rd_data": Out(port_bits * shape.beat_stripes),
                    "release": In(Release),
                }
                | {f"{p.name}_row": In(range(shape.side_rows(p))) for p in planes}
                | {f"{p.name}_data": Out(port_bits * p.lanes) for p in planes}
            )

        super().__init__(
            {"axi": Out(Axi4Signature(port_bits)), "base": In(64)}
            | {f"{name}_desc": In(stream.Signature(Descriptor)) for name in (*RINGS, "e")}
            | {name: Out(ring(name)) for name in RINGS}
            | {
                "e": Out(stream.Signature(port_bits)),
                "write": In(stream.Signature(write_layout(shape.port_bytes))),
                "write_idle": Out(1),
                "error": Out(1),
            },
            shape.key,
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.axi.arsize.eq(self._shape.port_bytes.bit_length() - 1),
            self.axi.awsize.eq(self._shape.port_bytes.bit_length() - 1),
            self.axi.arburst.eq(1),  # INCR
            self.axi.awburst.eq(1),
            self.axi.arcache.eq(0b0011),  # normal, not cached, may be buffered
            self.axi.awcache.eq(0b0011),
        ]
        owner, word, owned = self._read(m)
        for name in RINGS:
            self._ring(m, name, word, owned & (owner == self._index(name)))
        self._stream(m, word, owned & (owner == self._index("e")))
        self._write(m)
        with m.If((self.axi.rvalid & self.axi.rresp[1]) | (self.axi.bvalid & self.axi.bresp[1])):
            m.d.sync += self.error.eq(1)
        return m

    def _index(self, client: str) -> int:
        return list(self._shape.capacity).index(client)

    def _address(self, stripe: Value) -> Value:
        """Address of a word; the base is a multiple of a page."""
        offset = Cat(Const(0, self._shape.port_bytes.bit_length() - 1), stripe)
        page_bits = PAGE.bit_length() - 1
        return Cat(
            offset[:page_bits], (self.base[page_bits:] + offset[page_bits:])[: 64 - page_bits]
        )

    def _read(self, m: Module) -> tuple[Value, Value, Value]:
        """Request bursts; give the client of a received word, the word, and if there is one."""
        bursts, can = [], []
        flying = Signal(
            range(self._shape.flight + max(self._shape.limits.values()) * self._shape.outstanding)
        )
        for name, capacity in self._shape.capacity.items():
            queue = place(
                m, f"{name}_descriptors", Queue(bits=Descriptor.size, depth=self._shape.descriptors)
            )
            cutter = place(m, f"{name}_bursts", BurstCutter(limit=self._shape.limits[name]))
            desc = getattr(self, f"{name}_desc")
            m.d.comb += [
                queue.i.payload.eq(desc.payload),
                queue.i.valid.eq(desc.valid),
                desc.ready.eq(queue.i.ready),
                cutter.i.payload.eq(queue.o.payload),
                cutter.i.valid.eq(queue.o.valid),
                queue.o.ready.eq(cutter.i.ready),
            ]
            free = Signal(range(capacity + 1), init=capacity, name=f"{name}_free")
            taken = Signal(self._shape.limits[name].bit_length(), name=f"{name}_taken")
            m.d.comb += taken.eq(Mux(cutter.o.valid & cutter.o.ready, cutter.o.p.words, 0))
            m.d.sync += free.eq(free + self._freed(name) - taken)
            bursts.append(cutter.o)
            may = cutter.o.valid & (cutter.o.p.words <= free)
            can.append(may & (flying < self._shape.flight) if name == "w" else may)

        # One in the address register, all in the queue of owners, in the order of the requests.
        owners = place(m, "owners", Queue(bits=2, depth=self._shape.outstanding))
        room, words, stripe = Signal(), Signal(9), Signal(32)
        m.d.comb += room.eq((~self.axi.arvalid | self.axi.arready) & owners.i.ready)
        for index, burst in reversed(list(enumerate(bursts))):  # the last assignment wins
            with m.If(can[index]):
                m.d.comb += [
                    owners.i.payload.eq(index),
                    words.eq(burst.p.words),
                    stripe.eq(burst.p.stripe),
                ]
            m.d.comb += burst.ready.eq(room & can[index] & ~Cat(can[:index]).any())
        m.d.comb += owners.i.valid.eq(Cat(can).any() & (~self.axi.arvalid | self.axi.arready))
        with m.If(self.axi.arready):
            m.d.sync += self.axi.arvalid.eq(0)
        requested = Signal()
        m.d.comb += requested.eq(owners.i.valid & owners.i.ready)
        with m.If(requested):
            m.d.sync += [
                self.axi.arvalid.eq(1),
                self.axi.araddr.eq(self._address(stripe)),
                self.axi.arlen.eq(words - 1),
            ]
        m.d.sync += flying.eq(flying + Mux(requested, words, 0) - self.axi.rvalid)

        owner, word, owned = Signal(2), Signal(8 * self._shape.port_bytes), Signal()
        m.d.comb += [
            self.axi.rready.eq(1),
            owners.o.ready.eq(self.axi.rvalid & self.axi.rlast),
        ]
        m.d.sync += [
            owner.eq(owners.o.payload),
            word.eq(self.axi.rdata),
            owned.eq(self.axi.rvalid),
        ]
        return owner, word, owned

    def _freed(self, name: str) -> Value:
        """Words whose room a client's consumer gives back in this cycle."""
        if name == "e":
            return self.e.valid & self.e.ready
        release, depth = getattr(self, name).release, self._shape.depths[name]
        each = self._shape.beat_stripes
        if name == "w" and self._shape.side is not None:
            depth, each = self._shape.periods, self._shape.period_stripes
        words = release.count[: depth.bit_length()] * each
        return Mux(release.valid, words, 0)

    def _beside(self, m: Module, word: Value, write: Value) -> Value:
        """Store the words of planes; give whether a word is of a beat."""
        side = self._shape.side
        assert side is not None
        at, ring, first = Signal(range(self._shape.period_stripes)), self.w, 0
        with m.If(write):
            m.d.sync += at.eq(Mux(at == self._shape.period_stripes - 1, 0, at + 1))
        for plane in side.planes:
            rows, lanes = self._shape.side_rows(plane), plane.lanes
            memory = place(
                m,
                f"w_{plane.name}",
                RingMemory(
                    bits=8 * self._shape.port_bytes,
                    lanes=lanes,
                    depth=rows,
                    style="distributed" if rows <= SHALLOW else "",
                ),
            )
            here, place_ = Signal(name=f"{plane.name}_here"), Signal(range(rows * lanes))
            lane_bits = lanes.bit_length() - 1
            m.d.comb += [
                here.eq(write & (at >= first) & (at < first + plane.stripes)),
                memory.wr_en.eq(here << place_[:lane_bits] if lane_bits else here),
                memory.wr_row.eq(place_[lane_bits:]),
                memory.wr_data.eq(word),
                memory.rd_en.eq(ring.rd_en),
                memory.rd_row.eq(getattr(ring, f"{plane.name}_row")),
                getattr(ring, f"{plane.name}_data").eq(memory.rd_data),
            ]
            with m.If(here):
                m.d.sync += place_.eq(place_ + 1)
            first += plane.stripes
        return write & (at >= first)

    def _ring(self, m: Module, name: str, word: Value, write: Value) -> None:
        if name == "w" and self._shape.side is not None:
            write = self._beside(m, word, write)
        ring, depth, lanes = getattr(self, name), self._shape.depths[name], self._shape.beat_stripes
        memory = place(
            m,
            f"{name}_ring",
            RingMemory(
                bits=8 * self._shape.port_bytes,
                lanes=lanes,
                depth=depth,
                style="ultra" if name == "w" and self._shape.w_ultra else "",
            ),
        )
        lane = Signal(lanes, init=1, name=f"{name}_lane")  # one-hot
        m.d.comb += [
            memory.wr_en.eq(Mux(write, lane, 0)),
            memory.wr_row.eq(ring.written),
            memory.wr_data.eq(word),
            memory.rd_en.eq(ring.rd_en),
            memory.rd_row.eq(ring.rd_row),
            ring.rd_data.eq(memory.rd_data),
        ]
        with m.If(write):
            m.d.sync += [lane.eq(lane.rotate_left(1)), ring.written.eq(ring.written + lane[-1])]

    def _stream(self, m: Module, word: Value, write: Value) -> None:
        queue = place(
            m, "e_words", Queue(bits=8 * self._shape.port_bytes, depth=self._shape.e_depth)
        )
        m.d.comb += [
            queue.i.valid.eq(write),  # has room: it was reserved
            queue.i.payload.eq(word),
            self.e.valid.eq(queue.o.valid),
            self.e.payload.eq(queue.o.payload),
            queue.o.ready.eq(self.e.ready),
        ]

    def _write(self, m: Module) -> None:
        pending = Signal(range(self._shape.writes + 1))
        stripes = place(m, "write_stripes", Queue(bits=32, depth=self._shape.writes))
        words = place(
            m, "write_words", Queue(bits=9 * self._shape.port_bytes, depth=self._shape.writes)
        )
        put = Signal()
        m.d.comb += [
            self.write.ready.eq(pending != self._shape.writes),  # then both queues have room
            put.eq(self.write.valid & self.write.ready & self.write.p.strobe.any()),
            stripes.i.valid.eq(put),
            stripes.i.payload.eq(self.write.p.stripe),
            words.i.valid.eq(put),
            words.i.payload.eq(Cat(self.write.p.data, self.write.p.strobe)),
            self.axi.wvalid.eq(words.o.valid),
            Cat(self.axi.wdata, self.axi.wstrb).eq(words.o.payload),
            self.axi.wlast.eq(1),
            words.o.ready.eq(self.axi.wready),
            stripes.o.ready.eq(~self.axi.awvalid | self.axi.awready),
            self.axi.bready.eq(1),
            self.write_idle.eq(pending == 0),
        ]
        with m.If(stripes.o.ready):
            m.d.sync += [
                self.axi.awvalid.eq(stripes.o.valid),
                self.axi.awaddr.eq(self._address(stripes.o.payload)),
            ]
        m.d.sync += pending.eq(pending + put - self.axi.bvalid)
