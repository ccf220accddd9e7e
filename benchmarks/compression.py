# SPDX-License-Identifier: Apache-2.0
"""What each way to store weights costs: perplexity and bytes, beside float and int8, on a shipped model.

``python -m benchmarks.compression [MODEL] [--tokens N] [--budget BITS ...]``

Every format by every method, then streams whose budget is spent where it helps most
(``generators.mixed``). Calibration and text are those of ``hwgen perplexity``; nothing is trained. Exit
code 1 if a calibrated method is worse than rounding and pruning by magnitude.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from designs.cards import load_model_card
from designs.checkpoint import Checkpoint
from designs.errors import DesignError
from designs.tokenizer import tokenizer_for
from designs.weight_format import INT8, WeightFormat
from generators.compress import Compression, matrices, stored_bytes
from generators.mixed import choose
from generators.quantise import quantise
from generators.weights import calibration_tokens
from hwgen.evaluate import CALIBRATION, HELD_OUT
from sim.calibrate import observe_ranges
from sim.perplexity import compare_perplexity, golden_perplexity

__all__ = ["FORMATS", "Row", "main", "measure"]

FORMATS = (
    ("int4", 32, "dense", None), ("int4", 64, "dense", None),
    ("int8", None, "2:4", 1), ("int8", None, "4:8", 1), ("int8", None, "8:16", 1),
    ("int4", 32, "2:4", 1), ("int4", 32, "2:4", 2), ("int4", 32, "4:8", 1), ("int4", 32, "1:4", 1),
    ("int8", None, "block8:0.9", None), ("int8", None, "block8:0.75", None), ("int8", None, "block16:0.75", None),
    ("int4", 32, "block8:0.75", None),
)  # fmt: skip
"""Weights, group, sparsity and share."""

BY = ("gptq", "wanda", "magnitude")


@dataclass(frozen=True)
class Row:
    """A way to store weights.

    Attributes
    ----------
    name : the format, or ``float``
    bits : stored bits of a weight
    perplexity : by method; one without a name where there is no choice
    """

    name: str
    bits: float
    perplexity: dict[str, float]


def measure(model: str, count: int, budgets: tuple[float, ...]) -> list[Row]:
    """The table for the first ``count`` tokens of the held-out text."""
    card = load_model_card(model)
    folder = card.checkpoint_folder
    tokenizer = tokenizer_for(card, folder)
    if folder is None or tokenizer is None:
        raise DesignError(f"model {model} comes without weights or a tokenizer")
    weights = Checkpoint.open(folder).weights(card)
    known, _ = calibration_tokens(card, tokenizer, CALIBRATION)
    ranges = observe_ranges(weights, card, known)
    text = tokenizer.encode(HELD_OUT.read_text(encoding="utf-8"))[:count]
    window = card.context

    def perplexity(asked: Compression) -> tuple[float, float]:
        """Perplexity and bits a weight."""
        found = quantise(weights, card, ranges, compression=asked)
        bits = 8 * stored_bytes(found, asked.stream) / sum(
            p.weight.size for _, p in matrices(found)
        )  # fmt: skip
        run = golden_perplexity(found, text, window=window, stride=window // 2)
        return run.perplexity, bits

    int8 = quantise(weights, card, ranges)
    both = compare_perplexity(int8, weights, card, text)
    rows = [
        Row("float", 32.0, {"": both.reference.perplexity}),
        Row("int8", 8.0, {"": both.golden.perplexity}),
    ]
    for kind, group, sparsity, share in FORMATS:
        form = WeightFormat.parse(kind, group, sparsity, share)
        methods = BY if form.sparse or form.block else ("gptq", "magnitude")
        found = {by: perplexity(Compression(form, by)) for by in methods}
        rows.append(Row(str(form), found["gptq"][1], {by: p for by, (p, _) in found.items()}))
    for budget in budgets:
        for form in (WeightFormat(4, 32), WeightFormat(4, 32, 2, 4)):
            asked = Compression(form)
            if form.bits_per_weight() > budget:
                continue
            mixed = choose(weights, card, ranges, asked, budget)
            value, bits = perplexity(mixed)
            eight = sum(f == INT8 for f in mixed.tensors.values())
            name = f"{form}, {len(mixed.tensors)} better ({eight} int8)"
            rows.append(Row(name, bits, {"gptq": value}))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="tiny-gpt2")
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--budget", type=float, nargs="*", default=[4.5, 5.0, 6.0])
    chosen = parser.parse_args(arguments)
    rows = measure(chosen.model, chosen.tokens, tuple(chosen.budget))
    first = next(iter(rows[0].perplexity.values()))
    print(f"perplexity of {chosen.model} over {chosen.tokens} tokens; against float in brackets")
    print(f"{'weights':<34}{'bits':>6}" + "".join(f"{by:>18}" for by in BY))
    missed = 0
    for row in rows:
        cells = row.perplexity
        shown = {by: cells.get(by, cells.get("") if by == BY[0] else None) for by in BY}
        line = "".join(
            f"{'':>18}"
            if value is None
            else f"{value:>9.3f} ({100 * (value / first - 1):+.1f} %)".rjust(18)
            for value in shown.values()
        )
        print(f"{row.name:<34}{row.bits:>6.2f}{line}")
        missed += cells.get("gptq", 0.0) > cells.get("magnitude", float("inf"))
    print(f"{missed} formats in which magnitude is better than gptq")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
