# SPDX-License-Identifier: Apache-2.0
"""What cores play: phases in order, each a nest of four loops, where its operands lie and where its results go.

Three kinds of scratchpad hold tensors. **X** words are ``tokens x reduce`` elements: word ``block * beats + beat`` is
what the engine takes as activations (of images: the weights of ``tokens`` channels). **W** words are ``outputs x
reduce`` elements, what it takes as weights: word ``tile * beats + beat``. **Rows** are words of ``outputs`` neighbours
in a row of an image or a matrix, with copies of their neighbours' edges beside them, in ``groups`` banks: row y lies in
bank ``y % groups``, so that a beat reads ``groups`` rows of an image, each with all that a kernel's columns need.

A result comes as rows of ``outputs`` elements; its indices are row (y), tile of columns (n) and channel (c). What
another core reads goes there over a link and into that core's scratchpads: every core has a copy of all that it reads.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CoreShape", "Function", "Inlet", "Pair", "Phase", "Program", "RowsAt", "RowsTo", "Segment", "Send", "Softmax",
    "Store", "Window", "WordsTo",
]  # fmt: skip


@dataclass(frozen=True)
class CoreShape:
    """Sizes of a core.

    Parameters
    ----------
    tokens, reduce, outputs : of the engine.
    bits : of an element, 8 or 16.
    acc_bits : of an accumulator.
    x_words, w_words, row_words : words of each scratchpad; of rows, in each bank; 0: none.
    groups : banks of rows.
    left, right : neighbours' elements beside a word of rows.
    ring_words : W words that wait for the engine, a power of two; 0: no weights come from memory.
    port_bytes : of a word of memory, a power of two.
    """

    tokens: int
    reduce: int
    outputs: int
    bits: int
    acc_bits: int
    x_words: int
    w_words: int
    row_words: int
    groups: int
    left: int
    right: int
    ring_words: int
    port_bytes: int

    @property
    def step(self) -> int:
        """Elements of a result that an X word (or a W word along its reduction) takes at once."""
        return self.outputs if self.reduce % self.outputs == 0 else 1

    @property
    def scratchpad_bytes(self) -> int:
        """Of all words, those of the ring and the copies of neighbours included."""
        beat = self.reduce * (self.w_words + self.ring_words) * self.outputs
        lanes = self.outputs + self.left + self.right
        elements = (
            self.x_words * self.tokens * self.reduce + beat + self.row_words * self.groups * lanes
        )
        return elements * self.bits // 8

    def per_beat(self, elements: int) -> int:
        """Words of so many elements in a word of memory; 0 if one needs several."""
        return 8 * self.port_bytes // (elements * self.bits)

    def beats_of(self, elements: int, words: int) -> int:
        """Words of memory that ``words`` words of so many elements take."""
        per = self.per_beat(elements)
        if per:
            return -(-words // per)
        return words * -(-elements * self.bits // (8 * self.port_bytes))


@dataclass(frozen=True)
class RowsAt:
    """A tensor in rows.

    Parameters
    ----------
    number : which of the core's tensors in rows.
    base : first word in each bank.
    tiles : words of a row; one more is kept for a left neighbour's edge.
    stride : words of a bank that a channel takes.
    height : rows.
    """

    number: int
    base: int
    tiles: int
    stride: int
    height: int


@dataclass(frozen=True)
class Window:
    """How a beat reads an image: ``rows`` rows of the kernel, ``columns`` wide.

    Parameters
    ----------
    image : where it lies.
    channels : of the image.
    kernel_rows, columns, rows : of the kernel, and rows of a beat.
    top, left : rows and columns of zeros before the image.
    double : every pixel counts four times (upsample2).
    absent : rows of the image that are not waited for: they do not come, or all has come before.
    """

    image: RowsAt
    channels: int
    kernel_rows: int
    columns: int
    rows: int
    top: int
    left: int
    double: bool
    absent: int = 0

    @property
    def row_beats(self) -> int:
        """Beats of one channel."""
        return -(-self.kernel_rows // self.rows)

    @property
    def height(self) -> int:
        """Rows as the kernel sees them."""
        return self.image.height << self.double


@dataclass(frozen=True)
class Pair:
    """Two tensors in rows, multiplied or added element by element."""

    a: RowsAt
    b: RowsAt
    op: Literal["mul", "add"]
    multipliers: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Softmax:
    """Rows of a matrix: ``columns`` in all, ``multiplier`` and ``shift`` to a power of two, and of the result."""

    rows: RowsAt
    columns: int
    multiplier: int
    shift: int
    out_multiplier: int
    out_shift: int


@dataclass(frozen=True)
class Function:
    """A table behind the requantisation, see ``sim.golden.kernel_ops``."""

    name: Literal["silu", "sigmoid", "exp"]
    fraction: int
    multiplier: int
    shift: int


@dataclass(frozen=True)
class RowsTo:
    """A result goes to rows; of a pooled one two tiles make a word."""

    rows: RowsAt


@dataclass(frozen=True)
class WordsTo:
    """A result of a matrix goes to X or W words.

    Parameters
    ----------
    memory : ``x``, or ``w``.
    base : first word.
    beats : words of a block (x) or tile (w).
    turned : of ``w``: rows of the result are along the reduction, not along the outputs.
    """

    memory: Literal["x", "w"]
    base: int
    beats: int
    turned: bool = False


@dataclass(frozen=True)
class Store:
    """A result goes to memory, behind those before it, in the order in which it is made.

    Parameters
    ----------
    words : of it.
    """

    words: int


@dataclass(frozen=True)
class Send:
    """A result goes to another core.

    Parameters
    ----------
    core : which one.
    first, count : rows that it needs, after pooling; of matrices that are made by columns all.
    """

    core: int
    first: int
    count: int


Target = RowsTo | WordsTo | Store | Send


@dataclass(frozen=True)
class Phase:
    """A task on the core.

    Parameters
    ----------
    name : of the task.
    ys, ns, cs : rows, tiles of columns and channels of the result, before it is pooled.
    columns : elements of a row of the result, before it is pooled.
    by_columns : all rows of a tile, then the next tile (else tiles of a row, channels inmost).
    beats : of a tile of the engine.
    work : ``ring``: weights from memory; ``tensor``: from W words at ``w_base``; else where rows are read.
    x_base : of the engine's first operand.
    tail : elements that count in the last beat of a tile.
    multiplier, shift : of the requantisation, to 16 bits if a function follows.
    function, relu, pool : what happens then.
    to : where results go.
    after : so many phases must have written their results before this one begins.
    awaits : of each inlet so many results must have come.
    segments : so many segments must have been loaded.
    """

    name: str
    ys: int
    ns: int
    cs: int
    columns: int
    by_columns: bool
    beats: int
    work: Literal["ring", "tensor"] | Window | Pair | Softmax
    multiplier: int
    shift: int
    to: tuple[Target, ...]
    x_base: int = 0
    w_base: int = 0
    tail: int = 0
    function: Function | None = None
    relu: bool = False
    pool: bool = False
    after: int = 0
    awaits: tuple[int, ...] = ()
    segments: int = 0

    @property
    def rows(self) -> int:
        """Rows of ``outputs`` elements that come out of the engine (or what stands for it)."""
        return self.ys * self.ns * self.cs

    def blocks(self, tokens: int) -> int:
        """Blocks of rows (of images: channels) that the engine takes side by side."""
        return -(-(self.cs if isinstance(self.work, Window) else self.ys) // tokens)

    def loops(self, tokens: int) -> tuple[int, int, int, int]:
        """Trip counts, outmost first."""
        if isinstance(self.work, Window):
            return self.ys, self.ns, self.blocks(tokens), self.beats
        if isinstance(self.work, Pair):
            return self.ys, self.ns, self.cs, 2
        if isinstance(self.work, Softmax):
            return self.ys, 3, self.ns, 1
        return self.ns, 1, self.blocks(tokens), self.beats


@dataclass(frozen=True)
class Segment:
    """A part of what comes from memory, in order.

    Parameters
    ----------
    name : of the tensor.
    to : ``x``: words from ``base``; ``ring``; or a tensor in rows (row by row, in each all channels).
    words : of it.
    base, channels : of ``x``; of rows.
    first : the part's first word among all of the tensor's.
    """

    name: str
    to: Literal["x", "ring"] | RowsAt
    words: int
    base: int = 0
    channels: int = 1
    first: int = 0


@dataclass(frozen=True)
class Inlet:
    """What comes from another core.

    Parameters
    ----------
    source : that core.
    phases : those of its phases that send, in order, with where their results go here.
    """

    source: int
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class Program:
    """All that a core does.

    Parameters
    ----------
    phases : in order.
    segments : what it loads, in order.
    images : tensors in rows that it keeps; how many rows each has.
    inlets : what it gets from other cores.
    """

    phases: tuple[Phase, ...]
    segments: tuple[Segment, ...]
    images: tuple[int, ...]
    inlets: tuple[Inlet, ...] = ()

    @property
    def sends(self) -> tuple[int, ...]:
        """Cores that get results of this one."""
        return tuple(sorted({t.core for p in self.phases for t in p.to if isinstance(t, Send)}))

    @property
    def computes(self) -> bool:
        """Whether it needs an engine."""
        return any(not isinstance(p.work, (Pair, Softmax)) for p in self.phases)

    def load_beats(self, shape: CoreShape) -> int:
        """Words of memory of all segments."""
        size = {"x": shape.tokens * shape.reduce, "ring": shape.outputs * shape.reduce}
        return sum(
            shape.beats_of(size[s.to] if isinstance(s.to, str) else shape.outputs, s.words)
            for s in self.segments
        )

    def store_beats(self, shape: CoreShape) -> int:
        """Words of memory of all results that leave."""
        return sum(
            shape.beats_of(shape.outputs // (2 if phase.pool else 1), to.words)
            for phase in self.phases
            for to in phase.to
            if isinstance(to, Store)
        )
