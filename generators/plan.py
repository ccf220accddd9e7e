# SPDX-License-Identifier: Apache-2.0
"""The plan: which engine shape and buffer sizes a model gets on a target, and what limited them."""

import itertools
import warnings
from contextlib import suppress
from dataclasses import dataclass

from amaranth.hdl import UnusedElaboratable

from designs.cards import ModelCard, list_models, load_model_card
from designs.errors import DesignError
from designs.memory_map import MemoryMap
from designs.target import TargetCard
from designs.weight_format import INT8
from generators.compress import NAMED, Compression, terms
from generators.image import memory_map
from generators.pim import pim_channels
from generators.quantise import GATES
from generators.resources import estimate, excess, total
from generators.weight_stream import stream_shape
from hw.arrays import ENGINES, Engine, EngineSpec, make_engine
from hw.core.accelerator import make_core_engine
from hw.core.config import CoreConfig

__all__ = ["Plan", "best_plan", "default_engine", "plan"]

CHUNK = 128
"""Tokens of a pass: the weights of a layer are read once for so many, and then compute binds, not memory."""

SLOTS = 16
"""Attention items in flight: the softmax of one head hides behind the scores of the next ones."""

THRIFT = ((1, 4, 2), (2, 2, 2), (4, 2, 1))
"""Buffers from generous to thrifty: divisor of the slots, tiles that the weight ring holds, heads that the
key and value rings hold."""

SHORT = 32
"""A pass of fewer tokens reads weights so often that smaller buffers are the better choice."""

RING_WORDS = 128
"""Words of a port that a ring of compressed weights holds at least: its beats are small, the latency is not."""

LANES = (8, 16, 32, 64)


@dataclass(frozen=True)
class Plan:
    """A core, its memory map, and why it has this shape.

    Attributes
    ----------
    config : the core's integers
    memory : the memory map
    limits : sentences for the report: what limits lanes, ports and chunk
    compression : how weights are stored
    """

    config: CoreConfig
    memory: MemoryMap
    limits: tuple[str, ...]
    compression: Compression


def function_unit_dsp(lanes: int, target: TargetCard) -> int:
    """Multipliers outside the engine of a GPT-2: requantisation and norm take two a lane each, the row root a few.

    Of 18 x 18 bits they take more, and yosys also puts the squares of the norm into them.
    """
    return (12 if target.dsp_kind == "mult18x18d" else 4) * lanes + 8


def default_engine(target: TargetCard) -> EngineSpec:
    """The engine that a model gets if nobody asks for one: as many products of a slice as it can make."""
    return EngineSpec("tree", "dsp_packed" if target.dsp_variant == "dsp48e2" else "mac")


def sparse_engine(target: TargetCard, compression: Compression | None) -> EngineSpec | None:
    """The engine that takes only the weights that are kept, if some are not and the target has slices for it."""
    form = INT8 if compression is None else compression.stream
    if not form.sparse or target.dsp_variant != "dsp48e2":
        return None
    return EngineSpec("chain", "dsp_packed", f"{form.n}:{form.m}")


def best_plan(card: ModelCard, target: TargetCard, compression: Compression | None = None) -> Plan:
    """A plan for whose engine nobody asks: that which takes the most weights a cycle, or as many on fewer slices.

    Raises
    ------
    DesignError
        If no shape fits, see :func:`plan`.
    """
    dense, sparse = default_engine(target), sparse_engine(target, compression)
    if sparse is None:
        try:
            return plan(card, target, dense, compression)
        except DesignError:
            with suppress(DesignError):
                return _without_multipliers(card, target, compression)
            raise
    found: list[Plan] = []
    for engine in (sparse, dense):
        try:
            found.append(plan(card, target, engine, compression))
        except DesignError:
            if engine is dense and not found:
                raise
    return max(
        found,
        key=lambda p: (
            p.config.tokens * p.config.reduce * p.config.lanes,
            p.config.sparsity != "dense",
        ),
    )


def _without_multipliers(
    card: ModelCard, target: TargetCard, compression: Compression | None
) -> Plan:
    """A plan for a target whose multipliers the function units need: one token row, of logic alone."""
    most = plan(card, target, EngineSpec("tree", "opt1"), compression).config
    engine = EngineSpec("tree", "opt1", tokens=1, reduce=most.reduce, outputs=most.lanes)
    return plan(card, target, engine, compression)


def plan(
    card: ModelCard,
    target: TargetCard,
    engine: EngineSpec,
    compression: Compression | None = None,
) -> Plan:
    """Choose the shape of the core; weights are stored as ``compression`` says, as int8 if it is None.

    The shape that takes the most bytes from memory a cycle wins: decoding is bound by them. Among equals, the most
    products a cycle, then one that takes more beats of weights at once, for fewer token rows; then an engine that
    takes weights at least twice as fast as memory delivers them (it catches up after softmax and norms), then the
    fewest lanes.

    Raises
    ------
    DesignError
        If no shape fits: what exceeds what, by how much, and what would fit.
    """
    if not ENGINES[engine.array].in_core:
        able = ", ".join(name for name, cls in ENGINES.items() if cls.in_core)
        raise DesignError(
            f"engine {engine}: array {engine.array!r} runs alone (hwgen engine), not in an accelerator yet; "
            f"use one of {able}"
        )
    asked = compression or Compression()
    sparsity = f"{asked.stream.n}:{asked.stream.m}"
    if engine.sparsity not in ("dense", sparsity):
        kept = sparsity if asked.stream.sparse else "all of them"
        raise DesignError(
            f"engine {engine} takes weights of which it keeps {engine.sparsity}, the model has {kept}; "
            f"use --sparsity {engine.sparsity}"
        )
    if card.activation not in GATES:
        raise DesignError(
            f"{card.name} has activation {card.activation}, for which there is no table; there are "
            f"{', '.join(GATES)}"
        )
    if engine.pe == "dsp_packed" and not target.packs:
        raise DesignError(
            f"engine {engine}: dsp_packed needs multipliers of 27 x 18 bits (DSP48E2, DSP58), {target.name} has "
            f"{target.dsp_kind}; use {engine.array}:mac"
        )
    reasons: tuple[str, ...] = ()
    too_large: DesignError | None = None
    for tokens, span, lanes in _shapes(card, target, engine, asked):
        memory = _memory(card, target, lanes, asked)
        have = target.memory.bytes_per_port
        if memory.bytes_per_port > have:
            too_large = too_large or DesignError(
                f"{card.name} does not fit {target.name}: it needs {memory.bytes_per_port:,} bytes behind each of "
                f"{memory.ports} memory ports, there are {have:,} ({memory.bytes_per_port - have:,} too many); "
                f"{_what_fits(target)}"
            )
            continue
        config, missing = _config(card, target, engine, (tokens, span, lanes), memory, asked)
        if not missing:
            return Plan(config, memory, _limits(card, target, config), asked)
        reasons = reasons or missing
    if too_large is not None and not reasons:
        raise too_large
    raise DesignError(
        f"{card.name} does not fit {target.name}: {'; '.join(reasons)}; give a smaller engine by --engine, "
        "or a larger target"
    )


def _limits(card: ModelCard, target: TargetCard, c: CoreConfig) -> tuple[str, ...]:
    engine = make_core_engine(c)
    shape = f"{c.tokens}x{c.reduce}x{c.lanes}"
    if c.sparsity != "dense":
        shape += f", {c.sparsity} of them"
    if c.chunk == CHUNK:
        chunk = "enough for compute to bind"
    else:
        chunk = "the context" if c.chunk >= card.context else "more do not fit on the chip"
    return (
        f"{engine.macs} products a cycle ({shape}) on {engine.resources().dsp} multipliers: "
        + _lane_limit(card, target, engine),
        (
            f"{c.ports} of {target.memory.ports} memory ports, {c.stripe_bytes} bytes per cycle; "
            f"the engine takes {c.span * c.stream.beat_bytes if c.span > 1 else c.beat_bytes}"
        ),
        f"{c.chunk} tokens a pass: {chunk}",
        *([_pim_limit(c)] if c.pim else []),
    )


def _pim_limit(c: CoreConfig) -> str:
    """What keys and values take of the PIM channels."""
    assert c.pim is not None
    s = c.cache
    return (
        f"{s.channels} PIM channels of {c.pim.banks} banks, {s.heads_here} heads of keys and values in each: "
        f"{s.bytes:,} bytes, {s.layer_rows} rows of a bank for a layer"
    )


def _shapes(
    card: ModelCard, target: TargetCard, engine: EngineSpec, compression: Compression
) -> list[tuple[int, int, int]]:
    """Token rows, beats of weights at once, and lanes that the multipliers allow, the best first."""
    spans = _spans(engine, compression)
    if (
        engine.reduce is not None
        and engine.outputs is not None
        and engine.reduce not in [span * engine.outputs for span in spans]
    ):
        times = f", or {', '.join(map(str, spans[1:]))} times as many" if spans[1:] else ""
        raise DesignError(
            f"engine {engine.reduce}x{engine.outputs}: a core needs as many reduction lanes as outputs{times}; "
            f"use {engine.tokens}x{engine.outputs}x{engine.outputs}"
        )
    legal = [n for n in LANES if not (card.head_size % n or card.width % n or card.ffn % n)]
    legal = [n for n in legal if not (card.head_size // n) & (card.head_size // n - 1)]
    block = compression.stream.block
    if block:
        legal = [n for n in legal if block % n == 0]
        if not legal:
            raise DesignError(
                f"blocks of {block} inputs are no whole engine steps of any shape that {card.name} can have"
            )
    if not legal:
        raise DesignError(
            f"{card.name}: head size {card.head_size} must be a power of two times 8 lanes or more"
        )
    if engine.reduce is not None and engine.outputs is not None and engine.tokens is not None:
        if engine.outputs not in legal:
            raise DesignError(
                f"engine with {engine.outputs} lanes: {card.name} (head size {card.head_size}) takes "
                f"{', '.join(map(str, legal))}"
            )
        span = engine.reduce // engine.outputs
        if not _side_by_side(card, span, engine.outputs):
            raise DesignError(
                f"engine {engine.reduce}x{engine.outputs}: {card.name} has matrices of other than a multiple of "
                f"{engine.reduce} inputs ({card.width}, {card.ffn}); "
                f"use {engine.tokens}x{engine.outputs}x{engine.outputs}"
            )
        if engine.tokens & (engine.tokens - 1):
            raise DesignError(f"engine with {engine.tokens} token rows: must be a power of two")
        shape = (engine.tokens, span, engine.outputs)
        need = _engine(engine, shape, target, compression).resources().dsp
        need += function_unit_dsp(engine.outputs, target)
        if need > target.dsp_usable:
            raise DesignError(
                f"engine {engine.tokens}x{engine.reduce}x{engine.outputs} needs {need} multipliers, {target.name} has "
                f"{target.dsp_usable} ({need - target.dsp_usable} too many)"
            )
        return [shape]
    found = []
    for lanes, span in itertools.product(legal, spans):
        if not _side_by_side(card, span, lanes):
            continue
        stripe = _ports(target, lanes) * target.memory.port_bits // 8
        tokens = 1
        while tokens <= lanes:
            candidate = _engine(engine, (tokens, span, lanes), target, compression)
            if not _fits(candidate, target):
                break
            speed = tokens * span * lanes**2 / candidate.beat_cycles(tokens)
            found.append((stripe, speed, span, min(2, lanes * lanes // stripe), -lanes, tokens))
            tokens *= 2
    if not found:
        own = _engine(engine, (1, 1, legal[0]), target, compression).resources()
        need = own.dsp + function_unit_dsp(legal[0], target)
        what = f"{need} multipliers, there are {target.dsp_usable}"
        if need <= target.dsp_usable:
            what = f"{own.lut} LUT and {own.ff} FF, there are {target.lut_usable} and {target.ff}"
        raise DesignError(
            f"{card.name} does not fit {target.name}: its smallest engine (1x{legal[0]}x{legal[0]}) needs {what}"
        )
    return [
        (tokens, span, -negative) for _, _, span, _, negative, tokens in sorted(found, reverse=True)
    ]


def _spans(engine: EngineSpec, compression: Compression) -> list[int]:
    """Beats of weights that an engine may take at once: of kept ones as many as have all weights of one."""
    form = compression.stream
    most = 1 if engine.sparsity == "dense" or form.block else form.m // form.n
    return [1 << bits for bits in range(most.bit_length())]


def _side_by_side(card: ModelCard, span: int, lanes: int) -> bool:
    """Whether every matrix has as many words of inputs as such beats take."""
    return not (card.width % (span * lanes) or card.ffn % (span * lanes))


def _engine(
    engine: EngineSpec, shape: tuple[int, int, int], target: TargetCard, compression: Compression
) -> Engine:
    tokens, span, lanes = shape
    sharing = {} if engine.sparsity == "dense" else {"share": compression.stream.share}
    with warnings.catch_warnings():  # an engine that is only asked
        warnings.simplefilter("ignore", UnusedElaboratable)
        return make_engine(
            engine.array, engine.pe, engine.sparsity, tokens=tokens, reduce=span * lanes, outputs=lanes,
            encoding=engine.encoding, dsp=target.dsp_variant, **sharing,
        )  # fmt: skip


def _fits(engine: Engine, target: TargetCard) -> bool:
    """Whether the engine leaves something to the rest of the core."""
    own = engine.resources()
    return (
        own.dsp + function_unit_dsp(engine.outputs, target) <= target.dsp_usable
        and own.lut < target.lut_usable
        and own.ff < target.ff
    )


def _memory(
    card: ModelCard, target: TargetCard, lanes: int, compression: Compression | None = None
) -> MemoryMap:
    return memory_map(
        card, lanes=lanes, ports=_ports(target, lanes), port_bytes=target.memory.port_bits // 8,
        compression=compression, cache=target.pim is None,
    )  # fmt: skip


def _what_fits(target: TargetCard) -> str:
    """The largest models of the catalogue whose weights and cache this target can hold."""
    fitting = []
    for name in list_models():
        card = load_model_card(name)
        try:
            memory = _memory(
                card, target, _shapes(card, target, default_engine(target), Compression())[0][-1]
            )
        except DesignError:
            continue
        if memory.bytes_per_port <= target.memory.bytes_per_port:
            fitting.append((memory.total_bytes, name))
    return f"{max(fitting)[1]} fits" if fitting else "no model of the catalogue fits"


def _ports(target: TargetCard, lanes: int) -> int:
    """The most ports, a power of two, that a beat can fill."""
    most = max(1, lanes * lanes // (target.memory.port_bits // 8))
    ports = min(target.memory.ports, most)
    return 1 << (ports.bit_length() - 1)


def _config(
    card: ModelCard,
    target: TargetCard,
    engine: EngineSpec,
    shape: tuple[int, int, int],
    memory: MemoryMap,
    compression: Compression,
) -> tuple[CoreConfig, tuple[str, ...]]:
    """The core with the longest pass and the largest buffers that fit, or what the smallest one lacks."""
    tokens, span, lanes = shape
    context_beats = -(-card.context // lanes) * (card.head_size // lanes)
    form = compression.stream
    stream = stream_shape(form, lanes, memory.stripe_bytes)
    times = {name: terms(compression.of(name), form, name) for name in (*NAMED, "lm_head")}
    for name, found in compression.tensors.items():
        if name not in times:  # of one layer
            times[name] = terms(found, form, name)
    kept = {}
    if form.block:
        for name in times:
            k = card.ffn if name.endswith("fc2") else card.width
            kept[name] = compression.of(name).kept_inputs(k) // lanes
    beats = max(
        n * (card.ffn if name.endswith("fc2") else card.width) // lanes for name, n in times.items()
    )
    longest = -(-beats // stream.row_beats)  # rows of the weight stream
    least = (
        64
        if stream.row_beats == 1
        else max(RING_WORDS // stream.row_stripes, 4 * stream.period_rows)
    )

    pim = {}
    if target.pim is not None:
        channel, count = pim_channels(card, target, lanes)
        pim = {"pim": channel, "pim_channels": count}

    def config(chunk: int, thrift: tuple[int, int, int], style: tuple[str, str]) -> CoreConfig:
        share, tiles, heads = thrift
        held = max(heads * context_beats, -(-4 * context_beats // 3))  # a quarter may be on its way
        slots = SLOTS // share
        if (
            pim
        ):  # a token's heads are multiplied together; rings of keys and values have nothing to hold
            held, slots = 4, max(2, _power_of_two(card.heads))
        return CoreConfig(
            array=engine.array, pe=engine.pe, encoding=engine.encoding or "",
            sparsity=engine.sparsity, span=span, dsp=target.dsp_variant,
            tokens=tokens, lanes=lanes, width=card.width, heads=card.heads, kv_heads=card.kv_heads,
            head_size=card.head_size, ffn=card.ffn, centred=card.norm == "layernorm",
            rotary=card.position == "rotary", gate=GATES[card.activation], gated=card.gated,
            vocabulary=card.vocabulary, context=card.context, layers=card.layers,
            chunk=chunk, slots=slots, ports=memory.ports, port_bytes=memory.port_bytes,
            buffer_style=style[0], ring_style=style[1],
            w_depth=_power_of_two(max(tiles * (longest + 1), least)),
            k_depth=_power_of_two(held), v_depth=_power_of_two(held),
            tokens_at=memory.tokens, weights_at=memory.weights, layer_stripes=memory.layer_stripes,
            head_at=memory.head, head_stripes=memory.head_stripes, wte_at=memory.wte, wpe_at=memory.wpe,
            row_stripes=memory.row_stripes, position_stripes=memory.position_stripes, k_at=memory.k, v_at=memory.v,
            kv_layer_stripes=memory.kv_layer_stripes, kv_head_stripes=memory.kv_head_stripes,
            w_bits=stream.bits, w_group=stream.group, w_n=stream.n, w_m=stream.m, w_share=stream.share,
            w_position_bits=stream.position_bits,
            w_terms=tuple((name, n) for name, n in times.items() if n > 1 or "." in name),
            w_masks=form.block > 0, w_words=tuple(kept.items()), layer_ends=memory.layer_ends,
            **pim,
        )  # fmt: skip

    longest_pass = min(CHUNK, -(-card.context // tokens) * tokens)
    passes = [longest_pass]
    while passes[-1] > tokens:
        passes.append(max(tokens, passes[-1] // 2 // tokens * tokens))
    worth = [chunk for chunk in passes if chunk >= SHORT] or passes[:1]
    choices = [(chunk, thrift) for thrift in THRIFT for chunk in worth]
    choices += [(chunk, THRIFT[-1]) for chunk in passes if chunk not in worth]
    styles = [("block", "block")]  # of buffers and weight ring
    if target.uram.usable:
        styles += [("ultra", "block"), ("ultra", "ultra")]
    found, missing = config(*choices[0], styles[0]), ()
    for chunk, thrift, style in [(*choice, style) for choice in choices for style in styles]:
        found = config(chunk, thrift, style)
        missing = excess(total(estimate(found, target)), target)
        if not missing:
            break
    return found, missing


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _lane_limit(card: ModelCard, target: TargetCard, engine: Engine) -> str:
    lanes, own = engine.outputs, engine.resources()
    double = 2 * own.dsp + function_unit_dsp(lanes, target)
    if double > target.dsp_usable:
        return (
            f"twice as many would need {double} DSP slices with the function units, "
            f"{target.name} leaves {target.dsp_usable}"
        )
    if 2 * own.lut >= target.lut_usable:
        return (
            f"twice as many would need {2 * own.lut} LUT for the engine alone, "
            f"{target.name} leaves {target.lut_usable}"
        )
    return f"a token row for each of at most {lanes} lanes; head size {card.head_size} allows no more lanes"
