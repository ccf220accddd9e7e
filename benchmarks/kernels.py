# SPDX-License-Identifier: Apache-2.0
"""The five kernels of InTAR (FCCM 2025) on equal lanes and memory words: our policies, the published cycles, the floor.

``python -m benchmarks.kernels [KERNEL ...] [--rtl [POLICY]]``. Ours are predictions of ``hwgen schedule``, with the
durations of the engines; ``--rtl`` builds the machine of a plan (by default of one core), simulates all of it, compares
its results with the golden model, and prints its cycles beside those that ``hwgen build`` predicted (a minute for the
largest). Published are cycles that the authors measured on a U280. The floor is multiplications over lanes. Our
sequential and dataflow schedules are the best ones on such machines, not slowed down.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from designs.errors import DesignError
from designs.graph import GraphCard, list_graphs, load_graph
from designs.progress import SilentProgress
from generators.kernel import POLICIES, schedule
from generators.kernel_build import build_kernel
from hwgen.kernels import integer_inputs, quantised
from schedules.optimal.check import check_plan
from schedules.optimal.solve import Effort
from sim.kernel_run import KernelResult, run_kernel

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels")
    parser.add_argument("kernels", nargs="*", default=list_graphs())
    parser.add_argument("--seconds", type=float, default=30.0, help="of search for each")
    parser.add_argument(
        "--rtl", nargs="?", const="sequential", metavar="POLICY", help="simulate the machine of this plan, whole"
    )  # fmt: skip
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", UnusedElaboratable)  # engines that are only asked
    print(
        f"{'kernel':<12}{'lanes':>6}  {'policy':<16}{'cycles':>12}{'proven':>8}{'lanes busy':>12}{'search':>9}"
    )
    for name in options.kernels:
        card = load_graph(name)
        floor = -(-card.macs // card.machine.lanes)
        for policy in POLICIES:
            begin = time.perf_counter()
            try:
                found = schedule(card, policy, Effort(options.seconds))
            except DesignError as error:
                print(f"{name:<12}{card.machine.lanes:>6}  {policy:<16}{error!s:>12}")
                continue
            check_plan(found.instance(card), found.plan)
            took, plan = time.perf_counter() - begin, found.plan
            proven = "yes" if plan.proven else f"{plan.bound:,}"
            print(
                f"{name:<12}{card.machine.lanes:>6}  {policy:<16}{plan.makespan:>12,}{proven:>8}"
                f"{floor / plan.makespan:>12.1%}{took:>7.1f} s",
                flush=True,
            )
        if options.rtl:
            try:
                _print_rtl(card, simulate(card, options.rtl, options.seconds), floor, options.rtl)
            except DesignError as error:
                print(f"{card.name:<12}{'':>6}  {'RTL, ' + options.rtl:<16}{'-':>12}  {error}")
        if card.published is not None:
            cycles, goal = card.published.cycles, card.published.goal
            print(
                f"{name:<12}{'':>6}  {card.published.source:<16}{cycles:>12,}{'':>8}{floor / cycles:>12.1%}"
            )
            print(
                f"{name:<12}{'':>6}  {'to reach':<16}{goal:>12,}\n{name:<12}{'':>6}  {'floor':<16}{floor:>12,}"
            )


def simulate(card: GraphCard, policy: str, seconds: float) -> KernelResult:
    """Build the machine of a kernel's plan and run all of it."""
    kernel = quantised(card, 0)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / card.name
        plan = schedule(card, policy, Effort(seconds))
        build_kernel(kernel, plan, out, SilentProgress())
        return run_kernel(out, integer_inputs(kernel, 0))


def _print_rtl(card: GraphCard, result: KernelResult, floor: int, policy: str) -> None:
    correct = "bit for bit" if not result.mismatch and not result.errors else "WRONG"
    print(
        f"{card.name:<12}{'':>6}  {'RTL, ' + policy:<16}{result.cycles:>12,}{'':>8}{floor / result.cycles:>12.1%}"
        f"  predicted {result.predicted:,}, {correct}",
        flush=True,
    )


if __name__ == "__main__":
    main()
