# SPDX-License-Identifier: Apache-2.0
"""The program of a core: its steps as values, and the layout of a step in the program memory."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

from hw.core.config import CoreConfig

__all__ = ["Destination", "Op", "Program", "Step", "step_layout"]


class Op(enum.Enum, shape=2):
    """What a step does."""

    EMBED = 0
    NORM = 1
    MATMUL = 2
    ATTENTION = 3


class Destination(enum.Enum, shape=3):
    """Where the rows of a tile go."""

    ACTIVATION = 0
    GATED = 1
    RESIDUAL = 2
    KEY = 3
    VALUE = 4
    SCORE = 5
    LOGIT = 6
    ROTATED = 7


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step (phase) of the program.

    Attributes
    ----------
    name : e.g. ``fc1``
    op : what is done
    wait : start only when everything before has been written
    last_token : only the last token of the pass (final norm and language-model head)
    layer_end : the last step of a layer: go back to the first one until all layers are done
    head : after the layers, only in a pass that yields a token
    fetch : keys and values of the layer may be read once this step's are written
    constant : a constant header precedes the tiles
    k_words, n_tiles : beats of the engine for a tile, and output tiles (MATMUL)
    terms : consecutive beats for the same word of the operand, a power of two
    pad : beats of the weight stream behind the last tile, which nobody reads
    source, source_stride : first word and words per group of the operand in the activation buffer
    destination : where results go
    target, target_stride : first word and words per group of the result in the activation buffer
    """

    name: str
    op: Op
    wait: bool = True
    last_token: bool = False
    layer_end: bool = False
    head: bool = False
    fetch: bool = False
    constant: bool = False
    k_words: int = 0
    n_tiles: int = 0
    terms: int = 1
    pad: int = 0
    source: int = 0
    source_stride: int = 0
    destination: Destination = Destination.ACTIVATION
    target: int = 0
    target_stride: int = 0


@dataclass(frozen=True)
class Program:
    """Steps of a pass: ``steps[:layer_start]`` once, then the layer's, then the head's.

    Attributes
    ----------
    steps, layer_start : as above
    layers : if layers differ: for each of them all steps, which differ in ``k_words``, ``terms`` and ``pad`` only
    """

    steps: tuple[Step, ...]
    layer_start: int
    layers: tuple[tuple[Step, ...], ...] = ()

    def __post_init__(self) -> None:
        names = [s.name for s in self.steps]
        if len(set(names)) != len(names):
            raise ValueError(f"Steps must have different names, not {names}")
        if sum(s.layer_end for s in self.steps) != 1:
            raise ValueError("A program must have exactly one step that ends a layer")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.steps)


def step_layout(config: CoreConfig) -> data.StructLayout:
    """Fields of a step in the program memory."""
    address = unsigned(max(1, (config.activation_depth - 1).bit_length()))
    stream = {"terms": 2, "pad": 12} if config.stream.compressed else {}
    return data.StructLayout({
        "op": Op, "phase": 8, "wait": 1, "last_token": 1, "layer_end": 1, "fetch": 1, "constant": 1,
        "k_words": 12, "n_tiles": 16, "source": address, "source_stride": 12, "destination": Destination,
        "target": address, "target_stride": 12, **stream,
    })  # fmt: skip


def encode(step: Step, phase: int, config: CoreConfig) -> dict[int | str, Any]:
    """Values of the fields of :func:`step_layout`; terms as a power of two."""
    stream: dict[int | str, Any] = {}
    if config.stream.compressed:
        stream = {"terms": step.terms.bit_length() - 1, "pad": step.pad}
    return {
        "op": step.op, "phase": phase, "wait": step.wait, "last_token": step.last_token,
        "layer_end": step.layer_end, "fetch": step.fetch, "constant": step.constant,
        "k_words": step.k_words, "n_tiles": step.n_tiles, "source": step.source,
        "source_stride": step.source_stride, "destination": step.destination, "target": step.target,
        "target_stride": step.target_stride, **stream,
    }  # fmt: skip
