"""What quantisation costs a model: joins checkpoint, calibration, quantisation and golden models.

The wings do not know each other, so this stands where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from designs import catalogue
from designs.cards import ModelCard, load_model_card
from designs.checkpoint import Checkpoint
from designs.errors import DesignError
from designs.progress import Progress
from designs.tokenizer import tokenizer_for

if TYPE_CHECKING:
    from sim.perplexity import Comparison

CALIBRATION = catalogue.ROOT / "texts" / "kjv-calibration.txt"
HELD_OUT = catalogue.ROOT / "texts" / "kjv-heldout.txt"


def perplexity(
    model: str,
    progress: Progress,
    *,
    weights_from: Path | None = None,
    text: Path | None = None,
) -> Comparison:
    """Measure the float and the integer model over a text.

    Parameters
    ----------
    model : str
        Name of a model that has a tokenizer.
    progress : Progress
        Where steps are reported.
    weights_from : Path, optional
        A Hugging Face folder, instead of the weights that come with the model.
    text : Path, optional
        A text file; the committed held-out text if left out.

    Raises
    ------
    DesignError
        If the model has no tokenizer or no weights, or its checkpoint or the text is faulty.
    """
    from generators.quantise import quantise
    from sim.calibrate import observe_ranges
    from sim.perplexity import compare_perplexity

    card = load_model_card(model)
    tokens = _tokens(card, text or HELD_OUT)
    folder = weights_from or card.checkpoint_folder
    if folder is None:
        raise DesignError(f"model {model} comes without weights; give a folder by --weights-from")
    with progress.step("load", str(folder)):
        weights = Checkpoint.open(folder).weights(card)
    with progress.step("calibrate", CALIBRATION.name):
        ranges = observe_ranges(weights, card, _tokens(card, CALIBRATION))
    with progress.step("quantise", "int8 weights, int8 activations"):
        integers = quantise(weights, card, ranges)
    with progress.step("evaluate", f"{len(tokens):,} tokens"):
        return compare_perplexity(integers, weights, card, tokens, progress=progress.advance)


def _tokens(card: ModelCard, path: Path) -> Sequence[int]:
    tokenizer = tokenizer_for(card)
    if tokenizer is None:
        raise DesignError(f"model {card.name} comes without a tokenizer, so it cannot read a text")
    try:
        return tokenizer.encode(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DesignError(f"text {path} cannot be read: {error}") from error
