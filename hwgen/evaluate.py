# SPDX-License-Identifier: Apache-2.0
"""What can be measured of a model without a build: joins checkpoint, quantisation and golden models.

The wings do not know each other, so this stands where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from designs import catalogue
from designs.checkpoint import find_model
from designs.errors import DesignError
from designs.progress import Progress
from designs.tokenizer import Tokenizer, tokenizer_for

if TYPE_CHECKING:
    from generators.compress import Compression
    from generators.digit_statistics import Beat, Tally
    from generators.weights import Calibration
    from sim.golden.perplexity import Perplexity

CALIBRATION = catalogue.ROOT / "texts" / "kjv-calibration.txt"
HELD_OUT = catalogue.ROOT / "texts" / "kjv-heldout.txt"


@dataclass(frozen=True)
class Quality:
    """What one way to store the weights of a model gives.

    Attributes
    ----------
    name : ``float`` or a format
    tensors : what ``--tensors`` takes for the matrices in other formats
    perplexity : over the text
    weight_bytes : of all matrices that a token is multiplied with, as they are stored, headers not included
    """

    name: str
    perplexity: Perplexity
    weight_bytes: float
    tensors: str = ""


def perplexity(
    model: str,
    progress: Progress,
    *,
    weights_from: Path | None = None,
    text: Path | None = None,
    compression: Compression | None = None,
    budget: float | None = None,
) -> list[Quality]:
    """Measure the float model, the int8 one and a compressed one over a text.

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
    compression : Compression, optional
        How the weights of the last one are stored; without it there are two.
    budget : float, optional
        Bits that a weight may take on average: so many matrices get better formats (`generators.mixed`).

    Raises
    ------
    DesignError
        If the model has no tokenizer or no weights, its checkpoint or the text is faulty, or weights do
        not fit the format.
    """
    from generators.compress import matrices, stored_bytes
    from generators.weights import calibrate_checkpoint, quantise_checkpoint, within_budget
    from sim.calibrate import observe_ranges
    from sim.perplexity import compare_perplexity, golden_perplexity

    card, own = find_model(model)
    folder = weights_from or own
    tokenizer = tokenizer_for(card, folder)
    if tokenizer is None:
        raise DesignError(f"model {card.name} comes without a tokenizer, so it cannot read a text")
    tokens = _tokens(tokenizer, text or HELD_OUT)
    folder = _weights(model, folder)
    given = calibrate_checkpoint(folder, card, CALIBRATION, observe_ranges, progress)
    integers = quantise_checkpoint(given, progress).model
    smaller = None
    if compression is not None:
        if budget is not None:
            compression = within_budget(given, compression, budget, progress)
        smaller = quantise_checkpoint(given, progress, compression).model
    with progress.step("evaluate", f"{len(tokens):,} tokens"):
        both = compare_perplexity(integers, given.weights, card, tokens, progress=progress.advance)
    count = sum(part.weight.size for _, part in matrices(integers))
    found = [
        Quality("float", both.reference, 4.0 * count),
        Quality("int8", both.golden, stored_bytes(integers)),
    ]
    if smaller is not None:
        with progress.step("evaluate", str(compression)):
            measured = golden_perplexity(
                smaller, tokens, window=card.context, stride=max(1, card.context // 2),
                progress=progress.advance,
            )  # fmt: skip
        assert compression is not None
        size = stored_bytes(smaller, compression.stream)
        found.append(Quality(str(compression), measured, size, compression.option()))
    return found


def build_accuracy(
    out: Path, progress: Progress, *, weights_from: Path | None = None, text: Path | None = None
) -> list[Quality]:
    """Measure the integers of a build, and the float model they came from, over a text; the report says both.

    Parameters
    ----------
    out : Path
        A folder that ``hwgen build`` wrote, with weights.
    progress : Progress
        Where steps are reported.
    weights_from : Path, optional
        The Hugging Face folder that it was built from, if that was not the model's own.
    text : Path, optional
        A text file; the committed held-out text if left out.

    Raises
    ------
    DesignError
        If the folder is no build, or has no weights or no tokenizer; the float weights are not those that
        it was built from; the text is faulty.
    """
    from designs import quantised
    from designs.checkpoint import Checkpoint
    from generators import manifest
    from generators.compress import Compression, matrices, stored_bytes
    from generators.report import apply_accuracy, six_digits
    from generators.report_facts import AccuracyFacts
    from sim.built import load
    from sim.perplexity import compare_perplexity

    built = load(out)
    if built.quantised is None:
        raise DesignError(f"{out} was built without weights, so it has no accuracy")
    card = built.card
    folder = _weights(card.name, weights_from or card.checkpoint_folder)
    if not manifest.made_from(out, {p.name: p for p in folder.glob("*.safetensors")}):
        raise DesignError(
            f"{out} was not built from the weights in {folder}; name those by --weights-from"
        )
    tokenizer = tokenizer_for(card, folder)
    if tokenizer is None:
        raise DesignError(f"model {card.name} comes without a tokenizer, so it cannot read a text")
    path = text or HELD_OUT
    tokens = _tokens(tokenizer, path)
    model = quantised.load(built.quantised)
    with progress.step("evaluate", f"{len(tokens):,} tokens"):
        both = compare_perplexity(
            model, Checkpoint.open(folder).weights(card), card, tokens, progress=progress.advance
        )
    facts = AccuracyFacts(
        text=path.name,
        tokens=both.golden.tokens,
        float_perplexity=six_digits(both.reference.perplexity),
        perplexity=six_digits(both.golden.perplexity),
        float_bits=six_digits(both.reference.bits),
        bits=six_digits(both.golden.bits),
    )
    apply_accuracy(out, facts)
    stored = Compression.from_dict(built.compression)
    count = sum(part.weight.size for _, part in matrices(model))
    return [
        Quality("float", both.reference, 4.0 * count),
        Quality(stored.formats(), both.golden, stored_bytes(model, stored.stream)),
    ]


def _tokens(tokenizer: Tokenizer, path: Path) -> Sequence[int]:
    try:
        return tokenizer.encode(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DesignError(f"text {path} cannot be read: {error}") from error


@dataclass(frozen=True)
class DigitStatistics:
    """Digits of a model's operands, by layer and name; the head is one layer more.

    Attributes
    ----------
    weights : of each weight matrix
    activations : of what the engine multiplies them with, and of attention's own products
    macs : multiply-accumulates of each of the activations over the text
    calibration : the text
    """

    weights: dict[tuple[int, str], Tally]
    activations: dict[tuple[int, str], Tally]
    macs: dict[tuple[int, str], int]
    calibration: Calibration


def digit_statistics(
    model: str, beat: Beat, progress: Progress, *, weights_from: Path | None = None
) -> DigitStatistics:
    """Quantise a model as a build does; count the digits of its weights, and of its activations.

    Parameters
    ----------
    model : str
        Name of a model, or path of a Hugging Face folder.
    beat : Beat
        What PEs compute in lock step.
    progress : Progress
        Where steps are reported.
    weights_from : Path, optional
        A Hugging Face folder, instead of the weights that come with the model.

    Raises
    ------
    DesignError
        If the model has no weights, or its checkpoint is faulty.
    """
    from generators.digit_statistics import tally, tally_weights
    from generators.weights import calibrate_checkpoint, calibration_tokens, quantise_checkpoint
    from sim.calibrate import observe_ranges
    from sim.operands import Operand, observe_operands

    card, own = find_model(model)
    folder = _weights(model, weights_from or own)
    given = calibrate_checkpoint(folder, card, CALIBRATION, observe_ranges, progress)
    quantised = quantise_checkpoint(given, progress)
    tokens, calibration = calibration_tokens(card, quantised.tokenizer, CALIBRATION)
    with progress.step("weights", "digits of every encoding"):
        weights = tally_weights(quantised.model, beat, progress.advance)
    activations: dict[tuple[int, str], Tally] = {}
    macs: dict[tuple[int, str], int] = {}

    def see(operand: Operand) -> None:
        key = (operand.layer, operand.name)
        found = tally(operand.rows, beat, operand.lengths)
        activations[key] = activations[key] + found if key in activations else found
        macs[key] = macs.get(key, 0) + operand.macs

    with progress.step("activations", str(calibration)):
        observe_operands(quantised.model, tokens, see, progress=progress.advance)
    return DigitStatistics(weights, activations, macs, calibration)


def _weights(model: str, folder: Path | None) -> Path:
    if folder is None:
        raise DesignError(f"model {model} comes without weights; give a folder by --weights-from")
    return folder
