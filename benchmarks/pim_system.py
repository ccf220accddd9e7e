# SPDX-License-Identifier: Apache-2.0
"""Decoding on NPUs with memory that computes, beside the published ratios of NeuPIMs (ASPLOS 2024).

``python -m benchmarks.pim_system [--only anchors|ratios|ablation|sensitivity|use] [--draws N] [--plot FOLDER]``

Four sizes of GPT-3, five batches, two distributions of lengths; each point is the mean over draws. The
published ratios are averages over such points; its absolute tokens a second are not given in text.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from generators.charts import Column, alone, columns
from generators.files import write
from hw.pim.config import PimConfig
from hw.pim.timing import PRESETS
from sim.pim.anchors import anchors
from sim.pim.system import DESIGNS, Design, Layer, energy, layer_time, with_sram
from sim.pim.workload import DATASETS, contexts, decoder

__all__ = ["ABLATIONS", "main", "mean_cycles", "points"]

SIZES = ("gpt3-7b", "gpt3-13b", "gpt3-30b", "gpt3-175b")
BATCHES = (64, 128, 256, 384, 512)

# Faster design, slower design, published mean ratio, what was published as its range.
RATIOS = (
    ("neupims", "gpu", 3.0, "against a measured A100 with PyTorch"),
    ("neupims", "npu-shipped", 2.4, ""),
    ("neupims", "npu", 2.4, ""),
    ("neupims", "pim-shipped", 1.6, "1.13 to 3"),
    ("neupims", "pim", 1.6, ""),
    ("pim-shipped", "npu-shipped", 1.5, ""),
    ("pim-shipped", "npu", 1.5, ""),
    ("dual-packed", "dual", None, "packing always helps"),
    ("neupims", "dual-packed", None, "helps from 256 requests on"),
    ("improved", "neupims", None, ""),
    ("improved-2", "neupims", None, ""),
)


def _channel(design: Design, **changes: object) -> Design:
    assert design.channel is not None
    return replace(design, channel=replace(design.channel, **changes))  # type: ignore[arg-type]


BEST = DESIGNS["improved"]
# What is taken away from the improved design.
ABLATIONS: dict[str, Callable[[], Design]] = {
    "loads of weights behind all tokens": lambda: replace(
        BEST, npu=replace(BEST.npu, overlap=False)
    ),
    "hidden preload": lambda: replace(BEST, npu=replace(BEST.npu, hidden_preload=False)),
    "sub-batches only where they help": lambda: replace(BEST, interleave="paper"),
    "sub-batches": lambda: replace(BEST, interleave="never"),
    "packed values": lambda: replace(BEST, pack_values=False),
    "all-bank precharge": lambda: _channel(BEST, prea=False),
    "joint refresh": lambda: _channel(BEST, refresh="staggered"),
}


def points() -> list[tuple[str, str, int]]:
    """Model, data set and batch of every point."""
    return [(m, d, b) for m in SIZES for d in DATASETS for b in BATCHES]


@lru_cache(maxsize=1 << 12)
def _layers(design: Design, model: str, dataset: str, batch: int, draws: int) -> tuple[Layer, ...]:
    return tuple(
        layer_time(design, decoder(model), contexts(dataset, batch, np.random.default_rng(seed)))
        for seed in range(draws)
    )


def mean_cycles(design: Design, model: str, dataset: str, batch: int, draws: int) -> float:
    """Cycles of a layer, as the mean over draws."""
    return float(np.mean([x.cycles for x in _layers(design, model, dataset, batch, draws)]))


def _ratio(fast: Design, slow: Design, draws: int, where: Sequence[tuple[str, str, int]]) -> np.ndarray:  # fmt: skip
    return np.array([mean_cycles(slow, *p, draws) / mean_cycles(fast, *p, draws) for p in where])


def _anchors(draws: int) -> Iterator[str]:
    yield f"cycles measured in the published simulator, GPT3-7B\n{'':45}{'published':>11}{'ours':>11}{'error':>8}"
    for a in anchors(draws):
        yield f"{a.name:45}{a.published:11,.0f}{a.ours:11,.0f}{a.error:8.1%}"


def _ratios(draws: int) -> Iterator[str]:
    where = points()
    yield f"times faster over {len(where)} points, {draws} draws each"
    yield f"{'':32}{'mean':>7}{'least':>7}{'most':>7}{'published':>11}"
    for fast, slow, published, note in RATIOS:
        r = _ratio(DESIGNS[fast], DESIGNS[slow], draws, where)
        shown = f"{published:11.2f}" if published else f"{'-':>11}"
        yield f"{f'{fast} over {slow}':32}{r.mean():7.2f}{r.min():7.2f}{r.max():7.2f}{shown}  {note}"
    yield ""
    yield f"cycles a layer\n{'':24}{'batch':>6}" + "".join(f"{name:>13}" for name in DESIGNS)
    for model, dataset, batch in where:
        cells = [mean_cycles(d, model, dataset, batch, draws) for d in DESIGNS.values()]
        yield f"{model:11}{dataset:13}{batch:6}" + "".join(f"{c:13,.0f}" for c in cells)


def _ablation(draws: int) -> Iterator[str]:
    where = points()
    base = _ratio(BEST, DESIGNS["neupims"], draws, where)
    yield f"the improved design is {base.mean():.2f} times faster than NeuPIMs ({base.min():.2f} to {base.max():.2f})"
    yield f"{'without':46}{'faster than NeuPIMs':>20}{'longer: mean':>14}{'least':>8}{'most':>8}"
    for name, make in ABLATIONS.items():
        design = make()
        longer = _ratio(BEST, design, draws, where)
        left = _ratio(design, DESIGNS["neupims"], draws, where)
        yield f"{name:46}{left.mean():20.2f}{longer.mean() - 1:14.1%}{longer.min() - 1:8.1%}{longer.max() - 1:8.1%}"


def _sensitivity(draws: int) -> Iterator[str]:
    model, dataset = "gpt3-7b", "sharegpt"
    yield f"{model}, {dataset}: cycles a layer of NeuPIMs / improved"

    def pair(change: Callable[[Design], Design], batch: int) -> str:
        designs = [change(DESIGNS[name]) for name in ("neupims", "improved")]
        a, b = (mean_cycles(d, model, dataset, batch, draws) for d in designs)
        return f"{a:10,.0f} / {b:9,.0f}"

    yield f"{'':34}" + "".join(f"{f'{b} requests':>24}" for b in (64, 256))
    rows: list[tuple[str, Callable[[Design], Design]]] = [("as they are", lambda d: d)]
    rows += [
        (f"{size} MiB on the chip", lambda d, s=size: with_sram(d, s << 20))
        for size in (4, 8, 16, 32)
    ]
    for faw in (16, 20, 40):
        rows.append(
            (
                f"tFAW {faw}",
                lambda d, f=faw: _channel(d, timing=replace(PRESETS["neupims-hbm"], faw=f)),
            )
        )
    rows += [
        ("refresh of ranks one by one", lambda d: _channel(d, refresh="staggered")),
        ("refresh of ranks together", lambda d: _channel(d, refresh="together")),
        ("GACT of 16 banks a window", lambda d: _channel(d, act_group=16)),
    ]
    rows += [(f"front end of {w} a cycle", lambda d, w=w: replace(d, front_end=w)) for w in (1, 4)]
    for name, change in rows:
        yield f"{name:34}" + "".join(f"{pair(change, b):>24}" for b in (64, 256))
    yield ""
    yield "batch from which sub-batches win (NeuPIMs' channel, ShareGPT)"
    for name in SIZES:
        wins = [
            b for b in (64, 128, 192, 256, 320, 384, 448, 512)
            if mean_cycles(replace(DESIGNS["neupims"], interleave="best"), name, dataset, b, draws)
            < mean_cycles(DESIGNS["dual-packed"], name, dataset, b, draws)
        ]  # fmt: skip
        yield f"  {name:11}{', '.join(map(str, wins)) or 'never'}"


def _use(draws: int) -> Iterator[str]:
    yield "what is busy, gpt3-30b, ShareGPT, 256 requests (published: NPU 28.0 to 64.9 %, PIM 17 to 26.4 %)"
    yield f"{'':14}{'NPU %':>8}{'PIM %':>8}{'MACs %':>8}{'mJ a layer':>12}{'W of memory':>13}"
    for name in ("pim-shipped", "pim", "dual-packed", "neupims", "improved"):
        design = DESIGNS[name]
        assert design.channel is not None
        layers = _layers(design, "gpt3-30b", "sharegpt", 256, draws)
        cycles = sum(x.cycles for x in layers)
        npu, pim = (
            100 * sum(v) / cycles for v in ((x.npu for x in layers), (x.pim for x in layers))
        )
        steps = sum(x.counts["COMP"] for x in layers) * design.channel.timing.comp / 32
        joule = sum(sum(energy(design.channel.timing, design.channel, x).values()) for x in layers)
        busy = f"{npu:8.1f}{pim:8.1f}{100 * steps / cycles:8.1f}"
        yield f"{name:14}{busy}{joule / draws / 1e6:12.2f}{joule / cycles:13.1f}"
    yield ""
    yield "heads that share keys, llama3-8b, 2,000 tokens of context, 64 requests: cycles of attention"
    lengths = [2000] * 64
    for entries in (1, 2, 4):
        channel = PimConfig(fmt="bf16", entries=entries)
        layer = layer_time(
            replace(DESIGNS["dual-packed"], channel=channel), decoder("llama3-8b"), lengths
        )
        yield f"  {entries} pages of vectors: {layer.stages['attention']:10,.0f}"


def _plot(folder: Path, draws: int) -> Iterator[str]:
    shown = ("npu", "pim-shipped", "pim", "neupims", "improved")
    for dataset in DATASETS:
        groups = []
        for model in SIZES:
            for batch in BATCHES:
                base = mean_cycles(DESIGNS["npu"], model, dataset, batch, draws)
                parts = [
                    Column(name, base / mean_cycles(DESIGNS[name], model, dataset, batch, draws))
                    for name in shown
                ]
                groups.append((f"{model[5:]} {batch}", parts))
        path = folder / f"pim_{dataset}.svg"
        write(path, alone(columns(groups, f"tokens a second over an NPU alone, {dataset}")))
        yield f"wrote {path}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pim_system")
    parts = {
        "anchors": _anchors, "ratios": _ratios, "ablation": _ablation,
        "sensitivity": _sensitivity, "use": _use,
    }  # fmt: skip
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="also write pim_*.svg there")
    options = parser.parse_args(arguments)
    for name, part in parts.items():
        if options.only in (None, name):
            for line in part(options.draws):
                print(line, flush=True)
            print()
    if options.plot:
        for line in _plot(options.plot, options.draws):
            print(line)


if __name__ == "__main__":
    main()
