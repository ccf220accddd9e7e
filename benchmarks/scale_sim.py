# SPDX-License-Identifier: Apache-2.0
"""What SCALE-Sim 3.0.0 says of a systolic array, in closed form: the peer that our cycles are compared with.

The formulas equal the tool's "Total Cycles" (no stalls) on 65 of 65 runs: arrays 8x16 to 128x128, squares and the
shapes of GPT-2 medium. It does not overlap one fold of the array with the next, and knows no memory bound here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Gemm", "Gpt2", "output_stationary", "total", "weight_stationary"]


@dataclass(frozen=True)
class Gemm:
    """``[m, k] @ [k, n]``, so many times."""

    m: int
    n: int
    k: int
    times: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all of them."""
        return self.m * self.n * self.k * self.times


Dataflow = Callable[[Gemm, int, int], int]


def output_stationary(gemm: Gemm, rows: int, columns: int) -> int:
    """Cycles of one product whose sums stay in an array of ``rows`` x ``columns``."""
    return _ceil(gemm.m, rows) * _ceil(gemm.n, columns) * (gemm.k + rows + columns - 2) - 1


def weight_stationary(gemm: Gemm, rows: int, columns: int) -> int:
    """Cycles of one product whose weights stay in an array of ``rows`` x ``columns``."""
    return _ceil(gemm.k, rows) * _ceil(gemm.n, columns) * (2 * rows + columns + gemm.m - 2) - 1


@dataclass(frozen=True)
class Gpt2:
    """Sizes of a GPT-2; the default is gpt2-medium."""

    layers: int = 24
    width: int = 1024
    heads: int = 16
    ffn: int = 4096
    vocabulary: int = 50257

    def products(self, tokens: int, context: int) -> Iterator[Gemm]:
        """All products of a pass of ``tokens`` that sees ``context``; attention unmasked, the head for one token."""
        d, head = self.width, self.width // self.heads
        yield Gemm(tokens, 3 * d, d, self.layers)
        yield Gemm(tokens, context, head, self.layers * self.heads)
        yield Gemm(tokens, head, context, self.layers * self.heads)
        yield Gemm(tokens, d, d, self.layers)
        yield Gemm(tokens, self.ffn, d, self.layers)
        yield Gemm(tokens, d, self.ffn, self.layers)
        yield Gemm(1, self.vocabulary, d)

    def prefill(self, tokens: int) -> tuple[Gemm, ...]:
        """The products of a prompt."""
        return tuple(self.products(tokens, tokens))

    def decode(self, context: int) -> tuple[Gemm, ...]:
        """The products of one token that sees ``context`` tokens, itself included."""
        return tuple(self.products(1, context))


def total(products: tuple[Gemm, ...], dataflow: Dataflow, rows: int, columns: int) -> int:
    """Cycles of products, one after the other."""
    return sum(gemm.times * dataflow(gemm, rows, columns) for gemm in products)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def main() -> None:
    """Print the totals of gpt2-medium."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "arrays", nargs="*", type=int, default=[16, 32, 64, 128], help="sides of square arrays"
    )
    network = Gpt2()
    rows = [
        ("prefill 128", network.prefill(128)),
        ("prefill 1024", network.prefill(1024)),
        ("decode at 128", network.decode(128)),
        ("decode at 1024", network.decode(1024)),
    ]
    print(f"{'gpt2-medium':<16}{'array':>9}{'OS cycles':>16}{'WS cycles':>16}{'OS use':>8}")
    for name, products in rows:
        for side in parser.parse_args().arrays:
            os, ws = (
                total(products, d, side, side) for d in (output_stationary, weight_stationary)
            )
            use = sum(g.macs for g in products) / side**2 / os
            print(f"{name:<16}{f'{side}x{side}':>9}{os:>16,}{ws:>16,}{use:>8.1%}")


if __name__ == "__main__":
    main()
