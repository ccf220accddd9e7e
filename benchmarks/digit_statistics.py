# SPDX-License-Identifier: Apache-2.0
"""Non-zero digits of normal and uniform operands beside the published figures; exit code 1 if they differ.

``python -m benchmarks.digit_statistics [--rows T] [--reduce R] [--numbers N]``

Digits are exact expectations over rounded normal distributions. Published are those of EN-T in the README of
Wu et al., "Transformation in the Bit-weight Dimension of MACs" (HPCA 2025), simulated by its authors. Cycles
are those of N random numbers (seed 0) in lock step; the authors count no cycle for a group without digits.
"""

import argparse
from math import erf, sqrt

import numpy as np

from generators.digit_statistics import Beat, tally
from hw.arith.digits import ENCODINGS, nonzero_table

__all__ = ["expected", "main", "normal"]

PUBLISHED = {10: 1.75, 20: 2.10, 30: 2.32, 40: 2.48, 50: 2.60}
"""Standard deviation -> digits of EN-T."""

TOLERANCE = 0.02
"""The authors give two digits of a simulation."""

VALUES = np.arange(-128, 128)


def normal(deviation: float) -> np.ndarray:
    """Probabilities [256] of ``VALUES``: a normal variable of mean 0, rounded and clipped to int8."""
    edges = (np.arange(-127, 128) - 0.5) / (deviation * sqrt(2))
    below = np.array([0.0, *(0.5 * (1 + erf(edge)) for edge in edges), 1.0])
    return np.diff(below)


def expected(probability: np.ndarray, counts: np.ndarray) -> float:
    """Mean of what ``counts`` [256] says of each bit pattern."""
    return float(probability @ counts[VALUES & 255])


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--reduce", type=int, default=16)
    parser.add_argument("--numbers", type=int, default=1 << 18)
    chosen = parser.parse_args(arguments)
    beat = Beat(chosen.rows, chosen.reduce)
    data: list[tuple[str, np.ndarray, int | None]] = [
        *((f"N(0,{deviation})", normal(deviation), deviation) for deviation in PUBLISHED),
        ("uniform", np.full(256, 1 / 256), None),
    ]
    ones = np.bitwise_count(np.arange(256, dtype=np.uint8))
    draw, missed = np.random.default_rng(0), 0
    print(
        f"cycles a number of csd; in lock step: rows {beat.rows}, elements of a row {beat.reduce}"
    )
    print(
        f"{'data':<10}{'one bits':>9}{'booth':>7}{'csd':>7}{'ent':>7}{'ent published':>15}"
        f"{'difference':>12}{'opt3, opt4c':>13}{'opt4e':>7}"
    )
    for name, probability, deviation in data:
        booth, ent, csd = (
            expected(probability, nonzero_table(8, encoding=encoding)) for encoding in ENCODINGS
        )
        shape = (-(-chosen.numbers // 4096), 4096)
        numbers = tally(draw.choice(VALUES, shape, p=probability).astype(np.int8), beat)
        one, four = (numbers.cycles_per_operand("csd", lanes) for lanes in (1, 4))
        beside = f"{'':>15}{'':>12}"
        if deviation is not None:
            difference = ent - PUBLISHED[deviation]
            missed += abs(difference) > TOLERANCE
            beside = f"{PUBLISHED[deviation]:>15.2f}{difference:>+12.3f}"
        print(
            f"{name:<10}{expected(probability, ones):>9.3f}{booth:>7.3f}{csd:>7.3f}{ent:>7.3f}"
            f"{beside}{one:>13.3f}{four:>7.3f}"
        )
    print(f"{missed} of {len(PUBLISHED)} differ by more than {TOLERANCE}")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
