"""A task-graph kernel becomes a folder: RTL, program, memory image, what the simulator must know."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import UnusedElaboratable

from designs.kernel_layout import (
    LoadRegion,
    StoreRegion,
    WordFormat,
    activations,
    kernel_words,
    rows,
    weights,
)
from designs.progress import Progress
from designs.quantised_kernel import QuantKernel, save_kernel
from generators import manifest
from generators.files import check_out, new_folder, write
from generators.kernel import KernelPlan, picture
from generators.kernel_lower import LoweredKernel, conv_window, lower
from generators.kernel_time import predict
from generators.verilog import emit
from hw.kernel import KernelMachine, KernelShell
from hw.kernel.machine import registers_of
from hw.kernel.program import Store

__all__ = ["KernelBuild", "build_kernel", "load_regions", "memory_image", "store_regions"]


@dataclass(frozen=True)
class KernelBuild:
    """What was built.

    Attributes
    ----------
    out : the folder.
    lowered : what the core plays.
    cycles : predicted, all.
    modules : Verilog modules.
    """

    out: Path
    lowered: LoweredKernel
    cycles: int
    modules: int


def load_regions(kernel: QuantKernel, lowered: LoweredKernel) -> list[LoadRegion]:
    """What the core loads, in order."""
    shape, offset, found = lowered.shape, 0, []
    sizes = {
        "x": shape.tokens * shape.reduce,
        "ring": shape.outputs * shape.reduce,
        "rows": shape.outputs,
    }
    for segment, (task, kind) in zip(lowered.program.segments, lowered.sources, strict=True):
        elements = sizes[kind]
        named: Any = "kernel" if segment.name == f"{task}.kernel" else kind
        tensor = task if named == "kernel" else segment.name
        found.append(LoadRegion(tensor, task, named, offset, segment.words, elements))
        offset += (
            WordFormat(elements, shape.bits, shape.port_bytes).beats(segment.words)
            * shape.port_bytes
        )
    return found


def store_regions(lowered: LoweredKernel, offset: int) -> list[StoreRegion]:
    """What the core stores, in order, from byte ``offset`` on."""
    shape, found = lowered.shape, []
    for phase in lowered.program.phases:
        for target in phase.to:
            if not isinstance(target, Store):
                continue
            half = 2 if phase.pool else 1
            elements = shape.outputs // half
            region = StoreRegion(
                phase.name, offset, (phase.cs, phase.ys // half, phase.columns // half), elements,
                phase.by_columns, phase.ns,
            )  # fmt: skip
            found.append(region)
            offset += (
                WordFormat(elements, shape.bits, shape.port_bytes).beats(region.words)
                * shape.port_bytes
            )
    return found


def memory_image(kernel: QuantKernel, lowered: LoweredKernel) -> bytes:
    """What the core loads, with zeros for inputs."""
    shape, parts = lowered.shape, []
    for region in load_regions(kernel, lowered):
        form = WordFormat(region.elements, shape.bits, shape.port_bytes)
        if region.tensor in kernel.card.inputs:
            parts.append(bytes(form.beats(region.words) * shape.port_bytes))
            continue
        value, task = kernel.tensors[region.tensor], kernel.card.tasks[region.task]
        if region.kind == "kernel":
            height = conv_window(task, shape.reduce)[0]
            words = kernel_words(value, height, shape.tokens, shape.reduce, task.op == "deconv")
        elif region.kind == "ring":
            words = weights(
                value.T if task.op == "matmul_t" else value, shape.outputs, shape.reduce
            )
        elif region.kind == "x":
            words = activations(value, shape.tokens, shape.reduce)
        else:
            words = rows(
                value.reshape((1, 1, *value.shape)[-3:] if value.ndim < 3 else value.shape),
                shape.outputs,
            )
        parts.append(form.pack(words))
    return b"".join(parts)


def build_kernel(
    kernel: QuantKernel, plan: KernelPlan, out: Path, progress: Progress
) -> KernelBuild:
    """Write ``rtl/``, ``plan.yaml``, ``gantt.svg``, ``program.json``, ``kernel.npz``, ``image.bin``, ``design.json``.

    Raises
    ------
    DesignError
        If RTL cannot do what is asked, or the folder is not ours.
    """
    check_out(out)
    lowered = lower(kernel, plan)
    card, shape, program = kernel.card, lowered.shape, lowered.program
    with warnings.catch_warnings():  # elaborated by name, not by Amaranth
        warnings.simplefilter("ignore", UnusedElaboratable)
        with progress.step("RTL") as step:
            machine = KernelMachine(program, shape)
            emission = emit(KernelShell(machine))
            step.detail = f"{len(emission.files)} modules"
        predicted = predict(program, shape, card.machine.latency)
    loads, stores = load_regions(kernel, lowered), store_regions(lowered, machine.store_offset)
    with new_folder(out) as folder:
        for name, text in emission.files.values():
            write(folder / "rtl" / name, text)
        write(folder / "hwgen_registers.h", registers_of(program).to_c_header())
        write(folder / "plan.yaml", plan.to_yaml())
        write(folder / "gantt.svg", picture(plan.instance(card), plan.plan))
        with progress.step("memory image") as step:
            image = memory_image(kernel, lowered)
            (folder / "image.bin").write_bytes(image)
            save_kernel(kernel, folder / "kernel.npz")
            step.detail = f"{len(image) / 1e6:.1f} MB"
        write(folder / "program.json", json.dumps(asdict(program), indent=1) + "\n")
        end = max([machine.store_offset, *(_end(r, shape) for r in stores)])
        facts = {
            "version": 1, "kind": "kernel", "kernel": card.name, "top": emission.top,
            "core": asdict(shape), "engine": card.machine.array,
            "memory": {"latency_cycles": card.machine.latency, "bytes": -(-end // 4096) * 4096},
            "registers": {r.name: r.offset for r in registers_of(program)},
            "loads": [asdict(region) for region in loads], "stores": [asdict(region) for region in stores],
            "phases": [phase.name for phase in program.phases],
            "predicted": {"cycles": predicted.total, "phases": list(predicted.phases)},
            "modules": dict(sorted(emission.counts.items())),
        }  # fmt: skip
        write(folder / "design.json", json.dumps(facts, indent=2) + "\n")
        request = {"graph": card.model_dump(mode="json"), "plan": plan.to_yaml()}
        manifest.write(folder, manifest.fingerprint(request, {}))
    return KernelBuild(out, lowered, predicted.total, len(emission.files))


def _end(region: StoreRegion, shape: Any) -> int:
    form = WordFormat(region.elements, shape.bits, shape.port_bytes)
    return region.offset + form.beats(region.words) * shape.port_bytes
