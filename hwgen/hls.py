# SPDX-License-Identifier: Apache-2.0
"""HLS designs of kernels where the wings meet: quantise, schedule, the golden results, and the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from designs import catalogue, target
from designs.errors import DesignError
from designs.graph import GraphCard
from designs.progress import Progress
from generators import manifest
from generators.files import check_out, new_folder, write
from hwgen.kernels import integer_inputs, quantised
from schedules.optimal.solve import Effort

__all__ = ["HlsRequest", "build"]

BOARD = "u280"
"""Whose part, clock and memory banks the scripts name if no target is asked for."""


@dataclass(frozen=True)
class HlsRequest:
    """What the user asks for.

    Attributes
    ----------
    card, parameters : the kernel, and its float weights (random if None)
    out : folder to write
    style : ``vitis`` or ``tapa``
    policy, plan : how to schedule, or a file with a plan
    board : name of a target
    """

    card: GraphCard
    parameters: dict[str, NDArray[Any]] | None
    out: Path
    style: str
    policy: str
    plan: Path | None
    board: str | None
    seed: int
    effort: Effort


def build(request: HlsRequest, progress: Progress) -> str:
    """Write an HLS design; what to say of it.

    Raises
    ------
    DesignError
        For an unknown style, policy or target, a plan that is not legal, an output folder that is not ours.
    """
    from generators.hls.emit import STYLES, files
    from generators.kernel import read_plan, schedule

    style = _style(request.style, STYLES)
    card, board = request.card, target.load(request.board or BOARD)
    check_out(request.out)
    plan_text = (
        None if request.plan is None else request.plan.read_text(encoding="utf-8", errors="replace")
    )
    key = _fingerprint(request, plan_text)
    if manifest.unchanged(request.out, key):
        return f"{request.out} is up to date"
    if plan_text is not None:
        plan = read_plan(plan_text, card)
    else:
        with progress.step("schedule") as step:
            plan = schedule(card, request.policy, request.effort)
            step.detail = f"{plan.plan.makespan:,} cycles predicted"

    from generators.hls.data import images
    from generators.hls.network import network_of
    from sim.golden import kernel as golden
    from sim.golden import kernel_ops as ops
    from sim.golden.ops import RSQRT_TABLE

    with progress.step("quantise and run the golden model"):
        quant = quantised(card, request.seed, request.parameters)
        values = golden.forward(quant, integer_inputs(quant, request.seed))
    tables = {
        "gate_table": ops.GATE_TABLE, "gate_slope": ops.GATE_SLOPE, "gelu_table": ops.GELU_TABLE,
        "gelu_slope": ops.GELU_SLOPE, "power_table": ops.POWER_TABLE, "power_slope": ops.POWER_SLOPE,
        "rsqrt_table": RSQRT_TABLE,
    }  # fmt: skip
    net = network_of(quant, plan)
    with progress.step("write") as step, new_folder(request.out) as folder:
        for name, text in files(net, card, plan, style, tables, board).items():
            write(folder / name, text)
        (folder / "data").mkdir()
        for name, content in images(net, quant, values).items():
            content.tofile(folder / "data" / f"{name}.bin")
        manifest.write(folder, key)
        step.detail = f"{len(net.cores)} cores, {len(net.streams)} streams"
    return (
        f"built {request.out}: {style} C++ of {card.name}, {plan.plan.makespan:,} cycles predicted"
    )


def _style(name: str, known: tuple[str, ...]) -> Literal["vitis", "tapa"]:
    if name not in known:
        raise DesignError(catalogue.unknown("style", name, list(known)))
    return "tapa" if name == "tapa" else "vitis"


def _fingerprint(request: HlsRequest, plan: str | None) -> dict[str, Any]:
    import hashlib

    weights = hashlib.sha256()
    for name, values in sorted((request.parameters or {}).items()):
        weights.update(name.encode() + b"\0" + values.tobytes())
    made_from = {
        "graph": request.card.model_dump(mode="json"), "backend": "hls", "style": request.style,
        "policy": request.policy, "plan": plan, "board": request.board, "seed": request.seed,
        "seconds": request.effort.seconds, "search_seed": request.effort.seed, "weights": weights.hexdigest(),
    }  # fmt: skip
    return manifest.fingerprint(made_from, {})
