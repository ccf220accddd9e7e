"""From a checkpoint to the quantised weights of a build."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from designs import quantised as storage
from designs.cards import ModelCard
from designs.checkpoint import Checkpoint
from designs.errors import DesignError
from designs.memory_map import MemoryMap
from designs.progress import Progress
from designs.quantised import QuantModel, Ranges
from designs.tokenizer import tokenizer_for
from generators.image import write_image
from generators.quantise import quantise

__all__ = ["quantise_checkpoint", "write_weights"]


def quantise_checkpoint(
    folder: Path,
    card: ModelCard,
    text: Path,
    observe: Callable[[Mapping[str, Any], ModelCard, Sequence[int]], Ranges],
    progress: Progress,
) -> QuantModel:
    """Load, check, calibrate on ``text``, quantise.

    Raises
    ------
    DesignError
        If the checkpoint is faulty or is not of this model.
    """
    with progress.step("load", str(folder)):
        checkpoint = Checkpoint.open(folder)
        checkpoint.check_against(card)
        weights = checkpoint.weights(card)
    with progress.step("calibrate", text.name):
        tokenizer = tokenizer_for(card)
        if tokenizer is None:
            raise DesignError(f"model {card.name} has no tokenizer to read the calibration text with")
        ranges = observe(weights, card, tokenizer.encode(text.read_text(encoding="utf-8")))
    with progress.step("quantise", "int8 weights and activations"):
        return quantise(weights, card, ranges)


def write_weights(folder: Path, model: QuantModel, memory: MemoryMap, progress: Progress) -> None:
    """Write ``quantised.npz`` (what the golden model runs) and ``weights.bin`` (the memory image)."""
    with progress.step("weights", f"{memory.image_bytes / 1e6:.1f} MB"):
        storage.save(model, folder / "quantised.npz")
        write_image(model, memory, folder / "weights.bin", progress=progress)
