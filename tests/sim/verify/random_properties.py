# SPDX-License-Identifier: Apache-2.0
"""Random properties over given signals."""

import random
from collections.abc import Mapping


def random_text(table: Mapping[str, int], seed: int, depth: int = 3) -> str:
    """A property of random operators, nested ``depth`` deep."""
    source = random.Random(seed)
    names = sorted(table)

    def expression(levels: int) -> str:
        if levels == 0 or source.random() < 0.2:
            if source.random() < 0.25:
                return str(source.choice([0, 1, 2, 5, 9, 200]))
            return source.choice(names)
        inner = lambda: expression(levels - 1)  # noqa: E731
        kind = source.randrange(8)
        if kind == 0:
            return f"{source.choice('!~-&|^')}({inner()})"
        if kind == 1:
            return f"({inner()} ? {inner()} : {inner()})"
        if kind == 2:
            return f"{{{inner()}, {inner()}}}"
        if kind == 3:
            return f"({inner()})[0]"
        if kind == 4:
            return f"{source.choice(['countones', 'onehot', 'onehot0'])}({inner()})"
        if kind == 5:
            choice = source.choice(["past", "rose", "fell", "stable", "changed", "past2"])
            return f"past({inner()}, 2)" if choice == "past2" else f"{choice}({inner()})"
        if kind == 6:
            sign = source.choice(["<", "<=", "==", "+", "-", "*"])
            return f"((signed({inner()}) {sign} signed({inner()})) != 0)"
        operators = [
            "+",
            "-",
            "*",
            "&",
            "|",
            "^",
            "==",
            "!=",
            "<",
            "<=",
            ">",
            ">=",
            "<<",
            ">>",
            "&&",
            "||",
        ]
        return f"({inner()} {source.choice(operators)} {inner()})"

    shape = source.randrange(4)
    body = f"{names[seed % len(names)]} == 0 || {expression(depth)}"
    if shape == 0:
        return body
    steps = expression(depth - 1)
    if shape >= 2:
        steps += f" ##{source.randrange(1, 4)} {expression(depth - 1)}"
    delay = ["", "##1 ", "##[0:2] ", "##[1:3] "][source.randrange(4)]
    return f"{steps} |-> {delay}{body}"
