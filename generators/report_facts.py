# SPDX-License-Identifier: Apache-2.0
"""What a report says: the keys of ``report.json`` as values; ``docs/report.md`` describes each."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from generators.asic_build import AsicResult
from generators.blocks import Blocks
from generators.place import PlacedResult
from generators.resources import owned
from generators.synth import Resources

VERSION = 1
"""Of report.json: larger when a key changes its meaning or goes; new keys do not count."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFacts(_Value):
    """The network."""

    name: str
    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    context: int
    parameters: int


class TargetFacts(_Value):
    """The part on its board, as its card says."""

    name: str
    description: str
    part: str | None
    family: str
    memory: str
    memory_ports: int
    gigabytes_per_second: float
    unverified: tuple[str, ...]


class EngineFacts(_Value):
    """The array of multipliers."""

    name: str
    array: str
    pe: str
    tokens: int
    reduce: int
    outputs: int


class PhaseFacts(_Value):
    """All runs of one phase in a point."""

    name: str
    runs: int
    cycles: int
    macs: int
    bytes: int
    bound: Literal["compute", "memory", "latency"]
    lanes_busy: float
    bandwidth_used: float


class Traffic(_Value):
    """Bytes over the memory ports."""

    weights: int
    keys_values: int
    embeddings: int
    written: int
    total: int
    per_token: float


class Point(_Value):
    """A prompt, or one token of decoding."""

    tokens: int
    context: int
    passes: int
    cycles: int
    seconds: float
    tokens_per_second: float
    macs: int
    traffic: Traffic
    needed_bytes: int
    compute_cycles: int
    memory_cycles: int
    bound: Literal["compute", "memory"]
    roofline_fraction: float
    lanes_busy: float
    bandwidth_used: float
    phases: tuple[PhaseFacts, ...]


class Moment(_Value):
    """The first run of a phase, in cycles since its section began."""

    phase: str
    start: int
    end: int
    bound: Literal["compute", "memory", "latency"]
    lanes_busy: float
    bandwidth_used: float


class Reads(_Value):
    """What the memory ports carry to the core in time, as parts of the granted bandwidth, one a bin."""

    bin_cycles: float
    weights: tuple[float, ...]
    keys_values: tuple[float, ...]
    embeddings: tuple[float, ...]


class Timeline(_Value):
    """One run of the section that repeats (a layer), in one pass."""

    name: str
    section: str
    tokens: int
    past: int
    cycles: int
    phases: tuple[Moment, ...]
    reads: Reads


class Region(_Value):
    """A part of the external memory."""

    name: str
    first_stripe: int
    stripes: int
    bytes: int


class MemoryFacts(_Value):
    """The external memory and what lies in it."""

    ports: int
    port_bytes: int
    stripe_bytes: int
    bytes_per_cycle: float
    weight_format: str
    weight_bytes: int
    weight_stream_bytes: int
    kv_bytes: int
    kv_bytes_per_token: int
    image_bytes: int
    total_bytes: int
    available_bytes: int
    regions: tuple[Region, ...]


class BufferFacts(_Value):
    """Memory on the chip."""

    name: str
    banks: int
    depth: int
    width: int
    bytes: int
    kind: str
    blocks: float


class BlockFacts(_Value):
    """A part of the design and what it takes."""

    name: str
    basis: Literal["estimate", "yosys"]
    modules: tuple[str, ...]
    used: Resources

    def owns(self, module: str) -> bool:
        """Whether a Verilog module is part of this block."""
        return owned(self.modules, module)


class ResourceFacts(_Value):
    """What the design takes of its target."""

    basis: Literal["estimate", "yosys", "yosys and estimate"]
    tool: str
    used: dict[str, int]
    available: dict[str, int]
    fits: bool
    reasons: tuple[str, ...]
    blocks: tuple[BlockFacts, ...]


class DieFacts(_Value):
    """A die: what is used of what the shell leaves, and the part of each block that is on it, 0 to 1."""

    used: dict[str, int]
    available: dict[str, int]
    blocks: dict[str, float]


class FloorplanFacts(_Value):
    """Which block goes on which die, and the bits between dies, each as often as it crosses."""

    dies: tuple[DieFacts, ...]
    crossing_bits: int


class PimRun(_Value):
    """A simulation of the build: what was predicted of it and what was counted, in cycles.

    ``counters`` are of the first channel: rows opened for the multipliers (by groups of banks), products, bursts
    written, refreshes.
    """

    prompt: int
    generated: int
    cycles: int
    cycles_predicted: int
    attention: int
    attention_predicted: int
    counters: dict[str, int]


class PimFacts(_Value):
    """The memory channels whose banks multiply, and what runs there."""

    channels: int
    banks: int
    ranks: int
    page_bytes: int
    products: int
    timing: str
    tasks: tuple[str, ...]
    heads: int
    layer_rows: int
    bytes: int
    available_bytes: int
    measured: PimRun | None = None


class ProgramFacts(_Value):
    """The program in the core's memory: one for every prompt and context, whose lengths are registers."""

    steps: int
    bits_per_step: int
    bytes: int
    lengths: int


class CalibrationFacts(_Value):
    """What the activations of the weights were calibrated on."""

    source: str
    tokens: int


class AccuracyFacts(_Value):
    """What quantising costs over a text: the float model beside the integers that the hardware computes."""

    text: str
    tokens: int
    float_perplexity: float
    perplexity: float
    float_bits: float
    bits: float


class FileFacts(_Value):
    """A file of the build."""

    path: str
    what: str


class BuildFacts(_Value):
    """What differs from one build of the same input to the next: the only such key."""

    seconds: float


class Report(_Value):
    """``report.json``; see ``docs/report.md``."""

    version: int
    model: ModelFacts
    target: TargetFacts
    engine: EngineFacts
    lanes: int
    clock_mhz: float
    chunk: int
    limits: tuple[str, ...]
    program: ProgramFacts
    calibration: CalibrationFacts | None = None
    accuracy: AccuracyFacts | None = None
    prefill: tuple[Point, ...]
    decode: tuple[Point, ...]
    timelines: tuple[Timeline, ...]
    memory: MemoryFacts
    pim: PimFacts | None = None
    buffers: tuple[BufferFacts, ...]
    resources: ResourceFacts
    blocks: Blocks | None
    floorplan: FloorplanFacts | None = None
    asic: AsicResult | None = None
    placed: PlacedResult | None = None
    files: tuple[FileFacts, ...]
    build: BuildFacts
