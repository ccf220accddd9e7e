"""The five kernels of InTAR (FCCM 2025) on equal lanes and memory words: our policies, the published cycles, the floor.

``python -m benchmarks.kernels [KERNEL ...]``. Ours are predictions of ``hwgen schedule``, with the durations of the
engines; there is no RTL of whole kernels yet. Published are cycles that the authors measured on a U280. The floor is
multiplications over lanes. Our sequential and dataflow schedules are the best ones on such machines, not slowed down.
"""

import argparse
import time

from designs.errors import DesignError
from designs.graph import list_graphs, load_graph
from generators.kernel import POLICIES, schedule
from schedules.optimal.check import check_plan
from schedules.optimal.solve import Effort

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels")
    parser.add_argument("kernels", nargs="*", default=list_graphs())
    parser.add_argument("--seconds", type=float, default=30.0, help="of search for each")
    options = parser.parse_args(arguments)
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
        if card.published is not None:
            cycles, goal = card.published.cycles, card.published.goal
            print(
                f"{name:<12}{'':>6}  {card.published.source:<16}{cycles:>12,}{'':>8}{floor / cycles:>12.1%}"
            )
            print(
                f"{name:<12}{'':>6}  {'to reach':<16}{goal:>12,}\n{name:<12}{'':>6}  {'floor':<16}{floor:>12,}"
            )


if __name__ == "__main__":
    main()
