# SPDX-License-Identifier: Apache-2.0
"""One whole token of GPT-2 medium through the RTL: all layers and the head, bit-exact, with its wall time.

``python -m benchmarks.decode_token [MODEL] [--target T] [--past P] [--probes]``

Random weights; P tokens of random keys and values are in the cache. The generated token is compared with the
golden model, with ``--probes`` every tensor on the way too. Everything but Verilator's runtime is made afresh.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from designs import target
from designs.cards import load_model_card
from generators.design import write_design
from generators.image import write_image
from generators.plan import default_engine, plan
from generators.quantise import random_quantised
from hwgen.console import Console
from sim.run import run_layers

__all__ = ["main"]


def main() -> int:
    """Run the benchmark; the exit code is 1 if the token differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="gpt2-medium")
    parser.add_argument("--target", default="u280")
    parser.add_argument("--past", type=int, default=127)
    parser.add_argument("--probes", action="store_true")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", UnusedElaboratable)
    card, board, console = load_model_card(chosen.model), target.load(chosen.target), Console()
    planned = plan(card, board, default_engine(board))
    with tempfile.TemporaryDirectory(prefix="hwgen-token.") as name:
        began = time.monotonic()
        write_design(Path(name), card, board, planned, console)
        built = time.monotonic() - began
        result = run_layers(
            Path(name), card.layers, 1, chosen.past, seed=1, model=random_quantised(card, 1),
            write_image=write_image, generate=1, probes=chosen.probes, progress=console,
        )  # fmt: skip
        total = time.monotonic() - began
    c = planned.config
    weights = (card.layers * (4 * c.width**2 + 2 * c.width * c.ffn)) + c.width * c.vocabulary
    cache = 2 * card.layers * (chosen.past + 1) * c.width
    ideal = (weights + cache) / min(board.granted_bytes_per_cycle, c.stripe_bytes)
    macs = weights + cache
    rows = [
        ("engine", f"{c.array}:{c.pe}:{c.tokens}x{c.lanes}x{c.lanes}, {c.ports} ports of {c.port_bytes} bytes"),
        ("multiply-accumulates", f"{macs:,}"),
        ("cycles", f"{result.cycles:,}"),
        ("ideal (weights and cache over the granted bandwidth)", f"{ideal:,.0f} ({ideal / result.cycles:.1%})"),
        ("RTL written in", f"{built:.1f} s"),
        ("simulated in", f"{result.wall_seconds:.1f} s ({result.cycles_per_second:,.0f} cycles/s)"),
        ("multiply-accumulates simulated a second", f"{macs / result.wall_seconds / 1e6:.0f} M"),
        ("all in all, compilation included", f"{total:.1f} s"),
        ("token equals the golden model's", f"{result.identical} ({result.tokens})"),
    ]  # fmt: skip
    for label, value in rows:
        print(f"{label:<54}{value}")
    return 0 if result.identical else 1


if __name__ == "__main__":
    raise SystemExit(main())
