# SPDX-License-Identifier: Apache-2.0
"""What a build puts into ``OUT/sim``: a cocotb testbench with golden vectors; it needs no hwgen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from designs import quantised
from designs.tokenizer import tokenizer_for
from sim.built import Built, load
from sim.golden import transformer

__all__ = ["emit_package"]

_TESTBENCH = Path(__file__).parent / "testbench"
_FILES = ("run.py", "test_accelerator.py")

_TEXT = "In the b"
"""Prompt of the vectors, of a model that has a tokenizer."""


def emit_package(folder: Path) -> dict[str, str]:
    """The files of ``OUT/sim``, by their names in it.

    Parameters
    ----------
    folder : the build: ``design.json``, and ``weights.bin`` and ``quantised.npz`` if it has
        weights; without them the testbench only tries the registers.
    """
    built = load(folder)
    files = {name: (_TESTBENCH / name).read_text(encoding="utf-8") for name in _FILES}
    return files | {"vectors.json": json.dumps(_vectors(built), indent=1) + "\n"}


def _vectors(built: Built) -> dict[str, Any]:
    memory = built.map
    names = ("prompt", "generate", "position", "layers", "generated", "cycles", "token")
    registers = {name: built.registers[name] for name in names if name in built.registers}
    for port in range(memory.ports):
        registers[f"memory_{port}"] = built.registers.get(f"memory_{port}", 0x80 + 12 * port)
    return {
        "top": built.top,
        "ports": memory.ports,
        "port_bytes": memory.port_bytes,
        "bases": [built.base(port) for port in range(memory.ports)],
        "stripes": memory.total_stripes,
        "token_stripe": memory.tokens,
        "layers": memory.layers,
        "latency_cycles": built.timing.latency_cycles,
        "registers": registers,
        "image": "../weights.bin",
        "cases": list(_cases(built)),
    }


def _cases(built: Built) -> Iterator[dict[str, Any]]:
    """A prompt, the tokens that follow it, and the words that are in memory then."""
    if built.weights is None or built.quantised is None:
        return
    model = quantised.load(built.quantised, keep=1)
    tokenizer = tokenizer_for(built.card)
    small = built.is_small
    if tokenizer is not None:
        prompt = tokenizer.encode(_TEXT)[: built.map.context - 2]
    else:
        prompt = [
            token % built.map.vocabulary for token in ((17, 4, 23, 11, 5) if small else (17,))
        ]
    cache = transformer.KVCache(model)
    tokens = transformer.generate(model, prompt, 3 if small else 1, chunk=built.chunk, cache=cache)
    yield {"prompt": prompt, "tokens": tokens, "memory": list(_cache_words(built, cache))}


def _cache_words(built: Built, cache: transformer.KVCache) -> Iterator[tuple[int, str]]:
    """Every word of the cache: its byte in the striped space, and its bytes in hexadecimal."""
    memory = built.map
    for layer in range(memory.layers):
        for which, half in (("k", cache.k), ("v", cache.v)):
            for position in range(cache.length):
                words = half[layer, position].reshape(
                    memory.kv_heads, memory.head_blocks, memory.lanes
                )
                for head, block in (
                    (h, b) for h in range(memory.kv_heads) for b in range(memory.head_blocks)
                ):
                    offset = memory.kv_offset(which, layer, head, position, block)
                    yield offset, words[head, block].tobytes().hex()
