"""What quantisation costs a model: joins checkpoint, calibration, quantisation and golden models.

The wings do not know each other, so this stands where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from designs import catalogue
from designs.checkpoint import Checkpoint, find_model
from designs.errors import DesignError
from designs.progress import Progress
from designs.tokenizer import Tokenizer, tokenizer_for

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
        Name of a model that has a tokenizer, or path of a Hugging Face folder that has one.
    progress : Progress
        Where steps are reported.
    weights_from : Path, optional
        A Hugging Face folder, instead of the weights (and the tokenizer) that come with the model.
    text : Path, optional
        A text file; the committed held-out text if left out.

    Raises
    ------
    DesignError
        If the model has no tokenizer or no weights, or its checkpoint or the text is faulty.
    """
    from generators.quantise import quantise
    from generators.weights import calibration_tokens
    from sim.calibrate import observe_ranges
    from sim.perplexity import compare_perplexity

    card, own = find_model(model)
    folder = weights_from or own
    tokenizer = tokenizer_for(card, folder)
    if tokenizer is None:
        raise DesignError(f"model {card.name} comes without a tokenizer, so it cannot read a text")
    tokens = _tokens(tokenizer, text or HELD_OUT)
    if folder is None:
        raise DesignError(f"model {model} comes without weights; give a folder by --weights-from")
    with progress.step("load", str(folder)):
        weights = Checkpoint.open(folder).weights(card)
    known, calibration = calibration_tokens(card, tokenizer, CALIBRATION)
    with progress.step("calibrate", str(calibration)):
        ranges = observe_ranges(weights, card, known, progress=progress.advance)
    with progress.step("quantise", "int8 weights, int8 activations"):
        integers = quantise(weights, card, ranges, progress=progress.advance)
    with progress.step("evaluate", f"{len(tokens):,} tokens"):
        return compare_perplexity(integers, weights, card, tokens, progress=progress.advance)


def _tokens(tokenizer: Tokenizer, path: Path) -> Sequence[int]:
    try:
        return tokenizer.encode(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DesignError(f"text {path} cannot be read: {error}") from error
