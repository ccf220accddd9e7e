# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to the quantised weights of a build."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from designs import quantised as storage
from designs.cards import ModelCard
from designs.checkpoint import Checkpoint
from designs.memory_map import MemoryMap
from designs.progress import Progress
from designs.quantised import QuantModel, Ranges
from designs.tokenizer import HuggingFaceTokenizer, Tokenizer, check_ids, tokenizer_for
from designs.transformer import weight_shapes
from generators.compress import Compression
from generators.image import write_image
from generators.mixed import choose
from generators.quantise import check_activation, quantise

__all__ = [
    "Calibrated", "Calibration", "ObserveRanges", "Quantised", "calibrate_checkpoint", "calibration_tokens",
    "quantise_checkpoint", "within_budget", "write_weights",
]  # fmt: skip

CALIBRATION_MACS = 2048 * 355_000_000
"""Multiply-accumulates that a calibration may take: 2,048 tokens of gpt2-medium, about a minute."""

FEWEST_TOKENS = 512
"""However large the model is."""

RANDOM_TOKENS = 2048
"""Most tokens of a calibration without a text."""

RANDOM_SOURCE = "random token ids"


class ObserveRanges(Protocol):
    """Runs the float model and notes what its tensors hold: ``sim.calibrate.observe_ranges``."""

    def __call__(
        self,
        weights: Mapping[str, NDArray[Any]],
        card: ModelCard,
        tokens: Sequence[int],
        *,
        progress: Callable[[int, int], object],
    ) -> Ranges: ...


@dataclass(frozen=True)
class Calibration:
    """What the activations were calibrated on.

    Attributes
    ----------
    source : name of the text, or ``"random token ids"``
    tokens : how many
    """

    source: str
    tokens: int

    @property
    def is_random(self) -> bool:
        """Whether there was no text, as nothing could read one."""
        return self.source == RANDOM_SOURCE

    def __str__(self) -> str:
        return f"{self.tokens:,} {'' if self.is_random else 'tokens of '}{self.source}"

    def to_dict(self) -> dict[str, Any]:
        """For ``design.json``."""
        return asdict(self)


@dataclass(frozen=True)
class Calibrated:
    """A checkpoint, and what its tensors hold over the text.

    Attributes
    ----------
    card : the model
    weights : float, by the Model's names; read when they are asked for
    ranges : of its tensors
    calibration : where they come from
    tokenizer : what prompts are read with; None if they are token ids
    """

    card: ModelCard
    weights: Mapping[str, NDArray[Any]]
    ranges: Ranges
    calibration: Calibration
    tokenizer: Tokenizer | None


@dataclass(frozen=True)
class Quantised:
    """The integers of a build, and how they were found.

    Attributes
    ----------
    model : the integers
    calibration : what the activations were calibrated on
    tokenizer : what prompts are read with; None if they are token ids
    """

    model: QuantModel
    calibration: Calibration
    tokenizer: Tokenizer | None


def calibration_tokens(
    card: ModelCard, tokenizer: Tokenizer | None, text: Path, seed: int = 0
) -> tuple[list[int], Calibration]:
    """The tokens to calibrate on: the beginning of ``text``, as much as is worth its time.

    Without a tokenizer no text can be read: the tokens are then random ones.

    Raises
    ------
    DesignError
        If the tokenizer makes tokens that the model does not know.
    """
    parameters = sum(prod(shape) for shape in weight_shapes(card).values())
    most = max(FEWEST_TOKENS, CALIBRATION_MACS // parameters)
    if tokenizer is None:
        count, source = min(most, RANDOM_TOKENS), RANDOM_SOURCE
        tokens = np.random.default_rng(seed).integers(0, card.vocabulary, count).tolist()
    else:
        source = text.name
        tokens = tokenizer.encode(text.read_text(encoding="utf-8"))[:most]
        check_ids(tokens, card.vocabulary)
    return tokens, Calibration(source, len(tokens))


def calibrate_checkpoint(
    folder: Path,
    card: ModelCard,
    text: Path,
    observe: ObserveRanges,
    progress: Progress,
    seed: int = 0,
) -> Calibrated:
    """Load, check, calibrate on ``text``.

    Parameters
    ----------
    folder : a Hugging Face folder; its tokenizer is used if it has one
    card : the model
    text : to calibrate on, if there is a tokenizer; else random tokens from ``seed``
    observe : runs the float model
    progress : told of the steps

    Raises
    ------
    DesignError
        If the checkpoint is faulty or is not of this model.
    """
    check_activation(card)
    with progress.step("load", str(folder)):
        weights = Checkpoint.open(folder).weights(card)
        tokenizer = tokenizer_for(card, folder)
    with progress.step("calibrate") as step:
        tokens, calibration = calibration_tokens(card, tokenizer, text, seed)
        step.detail = str(calibration)
        ranges = observe(weights, card, tokens, progress=progress.advance)
    return Calibrated(card, weights, ranges, calibration, tokenizer)


def within_budget(
    given: Calibrated, compression: Compression, budget: float, progress: Progress
) -> Compression:
    """Formats of the matrices that gain most from better ones than the stream's (``generators.mixed``).

    Parameters
    ----------
    budget : bits that a weight may take on average

    Raises
    ------
    DesignError
        If the stream alone takes more.
    """
    with progress.step("budget", f"{budget:g} bits a weight") as step:
        found = choose(
            given.weights, given.card, given.ranges, compression, budget, progress=progress.advance
        )
        step.detail = found.formats()
    return found


def quantise_checkpoint(
    given: Calibrated,
    progress: Progress,
    compression: Compression | None = None,
    store: Path | None = None,
) -> Quantised:
    """Quantise what was calibrated.

    Parameters
    ----------
    compression : how weights are stored; int8 if None
    store : file (``.npz``) that the integers go to, and the model reads them from: one layer is in memory at
        a time. All of them are if None
    """
    asked = compression or Compression()
    name = "int8 weights" if asked == Compression() else f"weights {asked}"
    with progress.step("quantise", f"{name}, int8 activations"):
        model = quantise(
            given.weights, given.card, given.ranges, compression=asked, lazy=store is not None,
            progress=progress.advance,
        )  # fmt: skip
        if store is not None:
            storage.save(model, store)
            model = storage.load(store, keep=1)
    return Quantised(model, given.calibration, given.tokenizer)


def write_weights(
    folder: Path, quantised: Quantised, memory: MemoryMap, progress: Progress
) -> None:
    """Write ``weights.bin``, the memory image.

    And ``tokenizer.json``, if prompts are read with a tokenizer that hwgen does not have itself.
    """
    with progress.step("weights", f"{memory.image_bytes / 1e6:.1f} MB"):
        write_image(quantised.model, memory, folder / "weights.bin", progress=progress)
        if isinstance(quantised.tokenizer, HuggingFaceTokenizer):
            text = quantised.tokenizer.to_json()
            (folder / "tokenizer.json").write_text(text, encoding="utf-8")
