# SPDX-License-Identifier: Apache-2.0
"""The five kernels of InTAR as HLS C++, C-simulated whole and compared with the golden model; or others.

``python -m benchmarks.hls [KERNEL ...] [--style vitis|tapa] [--policy P]``. A layer of GPT-2 medium: ``python -m
benchmarks.hls gpt2-medium@64 --lanes 8x8x32 --spad-bytes 16777216 --policy sequential --seconds 5``. Nothing here was
synthesised: an HLS tool has not seen these files. Multiplications a second are those of the C-simulation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from designs.errors import DesignError
from designs.graph import list_graphs
from designs.graph_machine import MachineOptions
from designs.progress import SilentProgress
from generators.kernel import POLICIES
from hwgen.graphs import open_graph
from hwgen.hls import HlsRequest, build
from schedules.optimal.solve import Effort
from sim.hls import simulate

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hls")
    parser.add_argument("kernels", nargs="*", default=list_graphs())
    parser.add_argument("--style", default="vitis", choices=("vitis", "tapa"))
    parser.add_argument("--policy", action="append", choices=POLICIES)
    parser.add_argument("--lanes", help="tokens x reduce x outputs, such as 8x8x32")
    parser.add_argument("--spad-bytes", type=int)
    parser.add_argument("--seconds", type=float, default=30.0, help="of search for each")
    options = parser.parse_args(arguments)
    print(
        f"{'kernel':<16}{'policy':<16}{'style':<7}{'processes':>10}{'lines':>7}{'memory':>11}{'values':>9}{'wrong':>7}"
        f"{'run':>9}{'MAC/s':>9}"
    )
    for name in options.kernels:
        machine = MachineOptions(lanes=options.lanes, spad_bytes=options.spad_bytes)
        card, parameters = open_graph(name, machine)
        for policy in options.policy or ["optimal"]:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / name
                request = HlsRequest(
                    card,
                    parameters,
                    out,
                    options.style,
                    policy,
                    None,
                    None,
                    0,
                    Effort(options.seconds),
                )
                try:
                    build(request, SilentProgress())
                except DesignError as error:
                    print(f"{name:<16}{policy:<16}{options.style:<7}{error}")
                    continue
                found = simulate(out, SilentProgress())
                design = json.loads((out / "design.json").read_text())
                lines = sum(1 for p in (out / "src").iterdir() for _ in p.open())
                print(
                    f"{name:<16}{policy:<16}{options.style:<7}{len(design['processes']):>10}{lines:>7}"
                    f"{design['memory_bytes']:>11,}{found.values:>9,}{found.wrong:>7}{found.seconds:>7.1f} s"
                    f"{card.macs / found.seconds / 1e6:>7.1f} M",
                    flush=True,
                )


if __name__ == "__main__":
    main()
