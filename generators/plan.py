"""The plan: which engine shape and buffer sizes a model gets on a target, and what limited them."""

from dataclasses import dataclass

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.memory_map import MemoryMap
from designs.target import TargetCard
from generators.image import memory_map
from hw.arrays import EngineSpec
from hw.core.config import CoreConfig

__all__ = ["Plan", "plan"]

CHUNK = 128
"""Tokens of a pass: the weights of a layer are read once for so many, and then compute binds, not memory."""

SLOTS = 16
"""Attention items in flight: the softmax of one head hides behind the scores of the next ones."""

LANES = (8, 16, 32, 64)


@dataclass(frozen=True)
class Plan:
    """A core, its memory map, and why it has this shape.

    Attributes
    ----------
    config : the core's integers
    memory : the memory map
    limits : sentences for the report: what limits lanes, ports and chunk
    """

    config: CoreConfig
    memory: MemoryMap
    limits: tuple[str, ...]


def function_unit_dsp(lanes: int) -> int:
    """Multipliers outside the engine: requantisation and LayerNorm take two a lane each, the row root a few."""
    return 4 * lanes + 8


def plan(card: ModelCard, target: TargetCard, engine: EngineSpec) -> Plan:
    """Choose the shape of the core.

    The most multipliers win; among equals, the shape whose engine takes weights at least twice as fast as
    memory delivers them (it catches up after softmax and norms, so that decoding stays bound by memory), then
    the fewest lanes.

    Raises
    ------
    DesignError
        If no shape fits: what exceeds what, by how much, and what would fit.
    """
    tokens, lanes = _shape(card, target, engine)
    ports = _ports(target, lanes)
    stripe = ports * target.memory.port_bits // 8
    try:
        memory = memory_map(
            card,
            lanes=lanes,
            ports=ports,
            port_bytes=target.memory.port_bits // 8,
            capacity_per_port=target.memory.bytes_per_port,
        )
    except DesignError as error:
        raise DesignError(f"{card.name} does not fit {target.name}: {error}") from None
    config, chunk_limit = _config(card, target, engine, tokens, lanes, memory)
    used = tokens * lanes * lanes
    limits = (
        f"{used} multipliers ({tokens}x{lanes}x{lanes}): "
        + _lane_limit(card, target, tokens, lanes),
        f"{ports} of {target.memory.ports} memory ports, {stripe} bytes per cycle; the engine takes {lanes * lanes}",
        chunk_limit,
    )
    return Plan(config, memory, limits)


def _shape(card: ModelCard, target: TargetCard, engine: EngineSpec) -> tuple[int, int]:
    if engine.reduce is not None and engine.reduce != engine.outputs:
        raise DesignError(
            f"engine {engine.reduce}x{engine.outputs}: a core needs as many reduction lanes as outputs; "
            f"use {engine.tokens}x{engine.reduce}x{engine.reduce}"
        )
    legal = [n for n in LANES if not (card.head_size % n or card.width % n or card.ffn % n)]
    legal = [n for n in legal if not (card.head_size // n) & (card.head_size // n - 1)]
    if not legal:
        raise DesignError(
            f"{card.name}: head size {card.head_size} must be a power of two times 8 lanes or more"
        )
    if engine.reduce is not None and engine.tokens is not None:
        if engine.reduce not in legal:
            raise DesignError(
                f"engine with {engine.reduce} lanes: {card.name} (head size {card.head_size}) takes "
                f"{', '.join(map(str, legal))}"
            )
        if engine.tokens & (engine.tokens - 1):
            raise DesignError(f"engine with {engine.tokens} token rows: must be a power of two")
        need = engine.tokens * engine.reduce**2 + function_unit_dsp(engine.reduce)
        if need > target.dsp_usable:
            raise DesignError(
                f"engine {engine.tokens}x{engine.reduce}x{engine.reduce} needs {need} multipliers, {target.name} has "
                f"{target.dsp_usable} ({need - target.dsp_usable} too many)"
            )
        return engine.tokens, engine.reduce
    found = []
    for lanes in legal:
        room = (target.dsp_usable - function_unit_dsp(lanes)) // (lanes * lanes)
        if room >= 1:
            tokens = 1 << (room.bit_length() - 1)
            tokens = min(tokens, lanes)
            stripe = _ports(target, lanes) * target.memory.port_bits // 8
            found.append((tokens * lanes**2, min(2, lanes * lanes // stripe), stripe, -lanes, tokens))
    if not found:
        need = legal[0] ** 2 + function_unit_dsp(legal[0])
        raise DesignError(
            f"{card.name} does not fit {target.name}: its smallest engine (1x{legal[0]}x{legal[0]}) needs {need} "
            f"multipliers, there are {target.dsp_usable}"
        )
    _, _, _, negative, tokens = max(found)
    return tokens, -negative


def _ports(target: TargetCard, lanes: int) -> int:
    """The most ports, a power of two, that a beat can fill."""
    most = max(1, lanes * lanes // (target.memory.port_bits // 8))
    ports = min(target.memory.ports, most)
    return 1 << (ports.bit_length() - 1)


def _config(
    card: ModelCard, target: TargetCard, engine: EngineSpec, tokens: int, lanes: int, memory: MemoryMap
) -> tuple[CoreConfig, str]:
    context_beats = -(-card.context // lanes) * (card.head_size // lanes)
    longest = max(card.width, card.ffn) // lanes

    def config(chunk: int) -> CoreConfig:
        return CoreConfig(
            array=engine.array, pe=engine.pe, tokens=tokens, lanes=lanes,
            width=card.width, heads=card.heads, head_size=card.head_size, ffn=card.ffn,
            vocabulary=card.vocabulary, context=card.context, layers=card.layers,
            chunk=chunk, slots=SLOTS, ports=memory.ports, port_bytes=memory.port_bytes,
            w_depth=_power_of_two(max(4 * (longest + 1), 64)),
            k_depth=_power_of_two(2 * context_beats), v_depth=_power_of_two(2 * context_beats),
            tokens_at=memory.tokens, weights_at=memory.weights, layer_stripes=memory.layer_stripes,
            head_at=memory.head, head_stripes=memory.head_stripes, wte_at=memory.wte, wpe_at=memory.wpe,
            row_stripes=memory.row_stripes, k_at=memory.k, v_at=memory.v,
            kv_layer_stripes=memory.kv_layer_stripes, kv_head_stripes=memory.kv_head_stripes,
        )  # fmt: skip

    chunk = min(CHUNK, -(-card.context // tokens) * tokens)
    while True:
        found = config(chunk)
        bits = on_chip_bits(found)
        if bits <= target.on_chip_bits:
            why = "enough for compute to bind" if chunk == CHUNK else "the context"
            if chunk < min(CHUNK, card.context):
                why = f"on-chip memory ({bits} of {target.on_chip_bits} bits)"
            return found, f"{chunk} tokens a pass: {why}"
        if chunk <= tokens:
            raise DesignError(
                f"{card.name} does not fit {target.name}: buffers need {bits} bits on chip, there are "
                f"{target.on_chip_bits} ({bits - target.on_chip_bits} too many)"
            )
        chunk = max(tokens, chunk // 2 // tokens * tokens)


def on_chip_bits(c: CoreConfig) -> int:
    """Bits of all buffers."""
    beat = 8 * c.beat_bytes
    rings = (c.w_depth + c.k_depth + c.v_depth) * beat
    activations = c.tokens * c.activation_depth * 8 * c.lanes
    residual = c.chunk * c.width * 16
    scores = c.slots * c.tokens * c.context_chunks * c.lanes * (16 + 8)
    return rings + activations + residual + scores


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _lane_limit(card: ModelCard, target: TargetCard, tokens: int, lanes: int) -> str:
    double = 2 * tokens * lanes * lanes + function_unit_dsp(lanes)
    if double > target.dsp_usable:
        return (
            f"twice as many would need {double} DSP slices with the function units, "
            f"{target.name} leaves {target.dsp_usable}"
        )
    return f"a token row for each of at most {lanes} lanes; head size {card.head_size} allows no more lanes"
