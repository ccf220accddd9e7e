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
from generators.quantise import check_activation, quantise

__all__ = [
    "Calibration", "ObserveRanges", "Quantised", "calibration_tokens", "quantise_checkpoint",
    "write_weights",
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


def quantise_checkpoint(
    folder: Path,
    card: ModelCard,
    text: Path,
    observe: ObserveRanges,
    progress: Progress,
    seed: int = 0,
    compression: Compression | None = None,
) -> Quantised:
    """Load, check, calibrate on ``text``, quantise.

    Parameters
    ----------
    folder : a Hugging Face folder; its tokenizer is used if it has one
    card : the model
    text : to calibrate on, if there is a tokenizer; else random tokens from ``seed``
    observe : runs the float model
    progress : told of the steps
    compression : how weights are stored; int8 if None

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
    asked = compression or Compression()
    name = "int8 weights" if asked == Compression() else f"weights {asked}"
    with progress.step("quantise", f"{name}, int8 activations"):
        model = quantise(weights, card, ranges, compression=asked, progress=progress.advance)
    return Quantised(model, calibration, tokenizer)


def write_weights(
    folder: Path, quantised: Quantised, memory: MemoryMap, progress: Progress
) -> None:
    """Write ``quantised.npz`` (what the golden model runs), ``weights.bin`` (the memory image).

    And ``tokenizer.json``, if prompts are read with a tokenizer that hwgen does not have itself.
    """
    with progress.step("weights", f"{memory.image_bytes / 1e6:.1f} MB"):
        storage.save(quantised.model, folder / "quantised.npz")
        write_image(quantised.model, memory, folder / "weights.bin", progress=progress)
        if isinstance(quantised.tokenizer, HuggingFaceTokenizer):
            text = quantised.tokenizer.to_json()
            (folder / "tokenizer.json").write_text(text, encoding="utf-8")
