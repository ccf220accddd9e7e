# SPDX-License-Identifier: Apache-2.0
"""Full-size layers on random weights: joins random models and images with the simulation runner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from designs.progress import Progress

if TYPE_CHECKING:
    from sim.run import SimResult


def run_random_layers(
    out: Path,
    layers: int,
    *,
    length: int,
    past: int,
    seed: int,
    waves: Path | None,
    progress: Progress,
) -> SimResult:
    """Run the first layers of a build on random weights, tokens and cache; compare every tensor.

    Parameters
    ----------
    out : Path
        The build's folder.
    layers : int
        How many layers.
    length, past : int
        Tokens of the pass, and tokens that are in the KV cache before it.
    seed : int
        Of everything random.
    waves : Path, optional
        File for a waveform.
    progress : Progress
        Where steps are reported.

    Raises
    ------
    DesignError
        If `out` is not a build, or has fewer layers, or the tokens do not fit its context.
    """
    from designs.errors import DesignError
    from generators.compress import Compression
    from generators.image import write_image
    from generators.quantise import random_quantised
    from sim.built import load
    from sim.run import run_layers

    built = load(out)
    if layers > built.card.layers:
        raise DesignError(f"{built.card.name} has {built.card.layers} layers, not {layers}")
    return run_layers(
        out,
        layers,
        length,
        past,
        seed,
        model=random_quantised(built.card, seed, layers, Compression.from_dict(built.compression)),
        write_image=write_image,
        waves=waves,
        progress=progress,
    )
