# SPDX-License-Identifier: Apache-2.0
"""PIM channels under test, and the attention that they compute."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from generators.verilog import emit
from hw.pim.channel import PimChannel
from hw.pim.config import PimConfig
from sim.golden import pim as golden
from sim.pim import driver, rtl
from sim.pim.controller import Request, replay
from sim.pim.driver import Program
from sim.pim.protocol import Command


def small(**changes: Any) -> PimConfig:
    """A channel that compiles fast."""
    sizes: dict[str, Any] = {
        "banks": 4, "ranks": 2, "groups": 1, "rows": 64, "page_bytes": 256, "act_group": 2,
    }  # fmt: skip
    return PimConfig(**sizes | changes)


def build(configs: Mapping[str, PimConfig], folder: Path, edit=None, optimise: str = "-O0") -> Path:
    """The program with a channel of each configuration.

    ``edit(name, file, text)`` may change the RTL; then all modules of the channel get names of their own.
    """
    devices, sources = {}, {}
    for name, config in configs.items():
        emission = emit(PimChannel(config))
        top = emission.top
        files = dict(emission.files.values())
        if edit is not None:
            for module in sorted(emission.files, key=len, reverse=True):
                files = {f: t.replace(module, f"{module}_{name}") for f, t in files.items()}
            files = {f"{name}_{f}": edit(name, f, t) for f, t in files.items()}
            top = f"{top}_{name}"
        devices[name] = (top, config)
        for file, text in files.items():
            (folder / file).write_text(text)
            sources[file] = folder / file
    return rtl.build(devices, list(sources.values()), folder / "build", optimise)


@dataclass
class Attention:
    """An attention on a channel: what is written first, the programs, and what must come out."""

    writes: list[Request]
    logit: Program
    attend: Program
    scores: np.ndarray
    context: np.ndarray

    @property
    def commands(self) -> list[tuple[Command, int]]:
        return self.logit.commands + self.attend.commands


def numbers(fmt: str, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random numbers of a format."""
    if fmt == "int8":
        return rng.integers(-128, 128, shape).astype(np.int8)
    x = rng.normal(size=shape) * 2.0 ** np.rint(rng.normal(size=shape, scale=3))
    x = np.where(rng.random(shape) < 0.2, np.roll(-x, 1, axis=-1), x)  # some cancel
    return golden.to_bf16(x.astype(np.float32))


def attention(
    c: PimConfig, length: int, heads: int = 4, kv_heads: int = 2, dk: int = 32, seed: int = 0,
    by_row: bool = True, pack: bool = False,
) -> Attention:  # fmt: skip
    """A request of that length; vectors go through rows of the memory, or over the bus."""
    rng = np.random.default_rng(seed)
    q = numbers(c.fmt, rng, heads, dk)
    k, v = numbers(c.fmt, rng, kv_heads, length, dk), numbers(c.fmt, rng, kv_heads, length, dk)
    cells = numbers(c.fmt, rng, c.banks, c.rows, c.page_elements)  # what was there before
    keys = driver.place_keys(c, k, cells, 0)
    used = keys + driver.place_values(c, v, cells, keys, pack)
    scale = 1e-3 if c.fmt == "int8" else dk**-0.5
    scores, weights, context = golden.attention(
        c.fmt, q, k, v, scale, lanes=c.lanes, chunk=c.page_elements
    )
    scratch = used if by_row else None
    logit = driver.logit(c, q, kv_heads, length, 0, scratch)
    attend = driver.attend(c, weights, kv_heads, dk, keys, scratch, pack)
    writes = driver.store(c, cells, range(used)) + logit.writes + attend.writes
    return Attention(writes, logit, attend, scores, context)


def queues(c: PimConfig, job: Attention):
    """Everything is written first; the multipliers start behind it."""
    mem = [(1, request) for request in job.writes]
    start = replay(c, [], mem)[-1][0] + 100
    return [(start, command, data) for command, data in job.commands], mem


def compare(c: PimConfig, job: Attention, outcome: rtl.Outcome) -> None:
    """Scores and context are the golden ones, bit by bit."""
    mask = (1 << c.res_bits) - 1
    rows = [[word >> c.res_bits * b & mask for b in range(c.banks)] for _, word in outcome.results]
    results = job.logit.results + job.attend.results
    assert len(rows) == len(results)
    dtype = np.uint32 if c.fmt == "int8" else np.uint16
    values = np.array(rows, dtype)
    heads, length = job.scores.shape
    scores = np.zeros((heads, -(-length // c.banks) * c.banks), dtype)
    for result, value in zip(job.logit.results, values, strict=False):
        scores[result.head, result.first : result.first + c.banks] = value
    np.testing.assert_array_equal(scores[:, :length], job.scores.view(dtype))
    context = np.zeros_like(job.context)
    for result, value in zip(job.attend.results, values[len(job.logit.results) :], strict=True):
        part = value.view(np.int32) if c.fmt == "int8" else golden.from_bf16(value)
        context[result.head, result.first : result.first + c.banks] += part
    np.testing.assert_array_equal(context, job.context)
