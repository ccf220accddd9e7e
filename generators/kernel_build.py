# SPDX-License-Identifier: Apache-2.0
"""A task-graph kernel becomes a folder: RTL, program, memory image, what the simulator must know."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import UnusedElaboratable
from numpy.typing import NDArray

from designs.kernel_layout import (
    LoadRegion,
    StoreRegion,
    WordFormat,
    activations,
    kernel_words,
    rows,
    striped,
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
from hw.core.shell import Shell
from hw.kernel import KernelMachine
from hw.kernel.machine import LINK_DEPTH, links_of, ports_of, registers_of, store_offset
from hw.kernel.program import CoreShape, Store

__all__ = ["KernelBuild", "build_kernel", "load_regions", "memory_image", "store_regions"]


@dataclass(frozen=True)
class KernelBuild:
    """What was built.

    Attributes
    ----------
    out : the folder.
    lowered : what the cores play.
    cycles : predicted, all.
    modules : Verilog modules.
    """

    out: Path
    lowered: LoweredKernel
    cycles: int
    modules: int


def load_regions(kernel: QuantKernel, lowered: LoweredKernel) -> list[LoadRegion]:
    """What the cores load, each in order."""
    found = []
    for port, n in enumerate(ports_of(lowered.hardware)):
        core, offset = lowered.cores[n], 0
        shape = core.shape
        sizes = {
            "x": shape.tokens * shape.reduce,
            "ring": shape.outputs * shape.reduce,
            "rows": shape.outputs,
        }
        for segment, (task, kind) in zip(core.program.segments, core.sources, strict=True):
            elements = sizes[kind]
            named: Any = "kernel" if segment.name == f"{task}.kernel" else kind
            tensor = task if named == "kernel" else segment.name
            found.append(
                LoadRegion(
                    tensor, task, named, port, offset, segment.first, segment.words, elements
                )
            )
            offset += _bytes(shape, elements, segment.words)
    return found


def store_regions(lowered: LoweredKernel) -> list[StoreRegion]:
    """What the cores store, each in order."""
    found = []
    for port, n in enumerate(ports_of(lowered.hardware)):
        core, offset = lowered.cores[n], store_offset(lowered.hardware[n])
        shape = core.shape
        for part, phase in zip(core.parts, core.program.phases, strict=True):
            if not any(isinstance(target, Store) for target in phase.to):
                continue
            half = 2 if phase.pool else 1
            first = part.first * shape.outputs if phase.by_columns else part.first // half
            region = StoreRegion(
                phase.name, port, offset, first, (phase.cs, phase.ys // half, phase.columns // half),
                shape.outputs // half, phase.by_columns, phase.ns,
            )  # fmt: skip
            found.append(region)
            offset += _bytes(shape, region.elements, region.words)
    return found


def _bytes(shape: CoreShape, elements: int, words: int) -> int:
    return WordFormat(elements, shape.bits, shape.port_bytes).beats(words) * shape.port_bytes


def memory_image(kernel: QuantKernel, lowered: LoweredKernel) -> bytes:
    """What the cores load, with zeros for inputs; a word of each port in turns."""
    machine = ports_of(lowered.hardware)
    parts: list[list[bytes]] = [[] for _ in machine]
    for region in load_regions(kernel, lowered):
        shape = lowered.cores[machine[region.port]].shape
        form = WordFormat(region.elements, shape.bits, shape.port_bytes)
        if region.tensor in kernel.card.inputs:
            parts[region.port].append(bytes(form.beats(region.words) * shape.port_bytes))
            continue
        words = _words(kernel, region, shape)
        parts[region.port].append(form.pack(words[region.first : region.first + region.words]))
    return striped([b"".join(found) for found in parts], lowered.cores[0].shape.port_bytes)


def _words(kernel: QuantKernel, region: LoadRegion, shape: CoreShape) -> NDArray[Any]:
    """All words of a constant tensor."""
    value, task = kernel.tensors[region.tensor], kernel.card.tasks[region.task]
    if region.kind == "kernel":
        height = conv_window(task, shape.reduce)[0]
        return kernel_words(value, height, shape.tokens, shape.reduce, task.op == "deconv")
    if region.kind == "ring":
        turned = task.op == "matmul_t"
        return weights(value.T if turned else value, shape.outputs, shape.reduce)
    if region.kind == "x":
        return activations(value, shape.tokens, shape.reduce)
    return rows(
        value.reshape((1, 1, *value.shape)[-3:] if value.ndim < 3 else value.shape), shape.outputs
    )


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
    card, cores = kernel.card, lowered.hardware
    with warnings.catch_warnings():  # elaborated by name, not by Amaranth
        warnings.simplefilter("ignore", UnusedElaboratable)
        with progress.step("RTL") as step:
            emission = emit(Shell(KernelMachine(cores)))
            step.detail = f"{len(emission.files)} modules"
        predicted = predict(lowered, card.machine.latency)
    loads, stores = load_regions(kernel, lowered), store_regions(lowered)
    with new_folder(out) as folder:
        for name, text in emission.files.values():
            write(folder / "rtl" / name, text)
        write(folder / "hwgen_registers.h", registers_of(cores).to_c_header())
        write(folder / "plan.yaml", plan.to_yaml())
        write(folder / "gantt.svg", picture(plan.instance(card), plan.plan))
        with progress.step("memory image") as step:
            image = memory_image(kernel, lowered)
            (folder / "image.bin").write_bytes(image)
            save_kernel(kernel, folder / "kernel.npz")
            step.detail = f"{len(image) / 1e6:.1f} MB"
        programs = [asdict(program) for program, _ in cores]
        write(folder / "program.json", json.dumps(programs, indent=1) + "\n")
        port_bytes = cores[0][1].port_bytes
        end = max(
            region.offset + _bytes(cores[0][1], region.elements, region.words)
            for region in (*loads, *stores)
        )
        facts = {
            "version": 1, "kind": "kernel", "kernel": card.name, "top": emission.top,
            "cores": [asdict(shape) for _, shape in cores], "engine": card.machine.array,
            "memory": {
                "latency_cycles": card.machine.latency, "ports": list(ports_of(cores)),
                "port_bytes": port_bytes, "bytes": -(-end // 4096) * 4096,
            },
            "registers": {r.name: r.offset for r in registers_of(cores)},
            "loads": [asdict(region) for region in loads], "stores": [asdict(region) for region in stores],
            "phases": [[phase.name for phase in program.phases] for program, _ in cores],
            "links": list(links_of(cores)), "link_depth": LINK_DEPTH,
            "predicted": {"cycles": predicted.total, "phases": predicted.phases},
            "modules": dict(sorted(emission.counts.items())),
        }  # fmt: skip
        write(folder / "design.json", json.dumps(facts, indent=2) + "\n")
        request = {"graph": card.model_dump(mode="json"), "plan": plan.to_yaml()}
        manifest.write(folder, manifest.fingerprint(request, {}))
    return KernelBuild(out, lowered, predicted.total, len(emission.files))
