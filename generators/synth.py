# SPDX-License-Identifier: Apache-2.0
"""Counts what a build takes on its target with yosys: each unique module once, times its count.

The counts are of yosys, not of the vendor: on UltraScale+ it maps only the multiplier into a
DSP48E2 and leaves its registers and its accumulator in fabric, so LUT and FF are upper bounds
there. Nothing is placed or routed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from designs.errors import DesignError
from designs.progress import Progress
from designs.target import TargetCard
from generators import manifest, yosys
from generators.files import write
from generators.in_memory import in_memory
from generators.sampling import combine, samples
from generators.yosys import SynthesisError

__all__ = [
    "Module",
    "ModuleResources",
    "Resources",
    "SynthesisError",
    "SynthesisResult",
    "resources_of",
    "synthesise",
    "synthesise_modules",
]

_WRAPPER = "hwgen_batch"
"""Name of the top that holds one instance of every module of a batch."""

_BATCH_MODULES = 12
_BATCH_CHARACTERS = 120_000
"""A batch shares the 3 s that yosys takes to read a family's cells; larger modules run alone."""

_COMMANDS = {
    "xcup": "synth_xilinx -family xcup -noiopad -noclkbuf -flatten -uram",
    "xcu": "synth_xilinx -family xcu -noiopad -noclkbuf -flatten",
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf -flatten",
    "ecp5": "synth_ecp5",
}
"""How yosys maps to a family, flattening inside a module only (each has keep_hierarchy)."""

_PLAIN = (
    # What synth_xilinx does to map to LUTs, with abc in the place of abc9.
    "opt_expr -mux_undef -noclkinv",
    "abc -luts 2:2,3,6:5,10,20",
    "clean",
    "xilinx_srl -fixed -minlen 3",
    "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
    "xilinx_dffopt",
    "opt_lut_ins -tech xilinx",
)
"""For modules on which abc9 fails by a mistake of its own (yosys 0.70 may give a wire a name that exists)."""

_FABRIC = (
    # yosys knows no use_dsp. What ends in a register marked "no" becomes adders before it looks for
    # multiplications: those in the logic before the register, up to the registers before that.
    f"hierarchy -top {_WRAPPER}",
    *("proc", "opt_expr", "opt_clean", "opt", "wreduce", "peepopt", "opt_clean"),
    "select -set marked a:use_dsp=no %ci t:$*dff* %i",
    "select -set products @marked %ci1:+[D] %ci*:-$dff,$dffe,$sdff,$sdffe,$sdffce t:$mul %i",
    "alumacc @products",
    "maccmap t:$macc t:$macc_v2",
)

_LUTS = {
    # LUTs that a cell occupies. UltraScale user guide UG574 has the sizes of distributed memory.
    **{f"LUT{inputs}": 1.0 for inputs in range(1, 7)},
    **{"SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1},
    **{"RAM32X1S": 1, "RAM32X1D": 2, "RAM64X1S": 1, "RAM64X1D": 2, "RAM32M": 4, "RAM64M": 4},
    **{"RAM128X1S": 2, "RAM128X1D": 4, "RAM256X1S": 4, "RAM256X1D": 8, "RAM512X1S": 8},
    **{"RAM32M16": 8, "RAM64M8": 8, "RAM32X16DR8": 8, "RAM64X8SW": 8},
    # ECP5: a carry cell is two LUTs, distributed memory four and two that hold its write port.
    **{"CCU2C": 2, "TRELLIS_DPR16X4": 6},
}
_FLIP_FLOPS = {"FDRE", "FDSE", "FDCE", "FDPE", "FDRE_1", "FDSE_1", "FDCE_1", "FDPE_1"} | {
    "LDCE",
    "LDPE",
    "TRELLIS_FF",
}
_DSPS = {"DSP48E1", "DSP48E2", "MULT18X18D"}
_BRAMS = {
    # In blocks of the target card: 36 Kb on AMD parts, 18 Kb on ECP5.
    **{"RAMB36E1": 1.0, "RAMB36E2": 1.0, "RAMB18E1": 0.5, "RAMB18E2": 0.5},
    **{"DP16KD": 1.0, "PDPW16KD": 1.0},
}
_CARRIES = {"CARRY4", "CARRY8", "CCU2C"}
_URAMS = {"URAM288", "URAM288_BASE"}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(_Value):
    """What hardware takes of a part."""

    lut: float = 0
    ff: float = 0
    dsp: float = 0
    bram: float = 0
    uram: float = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            **{name: getattr(self, name) + getattr(other, name) for name in Resources.model_fields}
        )

    def __mul__(self, times: int) -> Resources:
        return Resources(**{name: getattr(self, name) * times for name in Resources.model_fields})

    def rounded(self) -> dict[str, int]:
        """Whole numbers, rounded up: half a block memory occupies its block."""
        return {name: int(-(-getattr(self, name) // 1)) for name in Resources.model_fields}


class Module(_Value):
    """A unique module of a build.

    Members
    -------
    name : str
        Its Verilog name.
    files : tuple of Path
        Where its text is.
    count : int
        Instances in the whole design.
    estimate : Resources or None
        What the build thought it takes, one instance, without its children.
    """

    name: str
    files: tuple[Path, ...]
    count: int
    estimate: Resources | None = None


class ModuleResources(_Value):
    """What one instance of a module takes, without the modules that it instantiates.

    Members
    -------
    name, count
        As in `Module`.
    basis : str
        ``"yosys"``, or ``"estimate"`` where yosys gave no answer (`note` says why), or
        ``"unknown"`` where there is no estimate either.
    resources : Resources
        Of one instance.
    cells : dict
        Cells by type, as yosys counts them.
    note : str
        Why yosys gave no answer, or of which smaller arrays its answer is the sum.
    """

    name: str
    count: int
    basis: str
    resources: Resources
    cells: dict[str, int] = {}
    note: str = ""

    @property
    def carries(self) -> int:
        """Carry cells of one instance: of 4 bits, on UltraScale of 8, on ECP5 of 2."""
        return sum(count for cell, count in self.cells.items() if cell in _CARRIES)


class SynthesisResult(_Value):
    """What a whole design takes.

    Members
    -------
    top : str
        Its top module.
    target, family : str
        What it was mapped to.
    tool : str
        yosys, its version, and its command: the basis of the figures.
    modules : tuple of ModuleResources
        Every unique module, sorted by name.
    available : Resources
        What the target leaves for a design.
    seconds : float
        Wall time.
    """

    top: str
    target: str
    family: str
    tool: str
    modules: tuple[ModuleResources, ...]
    available: Resources
    seconds: float

    @property
    def total(self) -> Resources:
        """Of all instances of all modules."""
        return sum((m.resources * m.count for m in self.modules), Resources())

    @property
    def uncounted(self) -> tuple[ModuleResources, ...]:
        """The modules that yosys did not finish."""
        return tuple(module for module in self.modules if module.basis != "yosys")


def resources_of(cells: Mapping[str, int]) -> Resources:
    """Return what mapped cells take; what is none of these (a carry, a wide mux) is free."""
    return Resources(
        lut=sum(_LUTS.get(cell, 0) * count for cell, count in cells.items()),
        ff=sum(count for cell, count in cells.items() if cell in _FLIP_FLOPS),
        dsp=sum(count for cell, count in cells.items() if cell in _DSPS),
        bram=sum(_BRAMS.get(cell, 0) * count for cell, count in cells.items()),
        uram=sum(count for cell, count in cells.items() if cell in _URAMS),
    )


def _start(
    batch: list[Module],
    known: Mapping[str, Module],
    family: str,
    limit: float,
    scratch: str,
    *,
    plain: bool = False,
) -> yosys.Run[list[Module]]:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    names = [module.name for module in batch]
    instances = " ".join(f"(* keep *) \\{name} \\{name}_instance ();" for name in names)
    (folder / "wrapper.v").write_text(f"module {_WRAPPER}; {instances} endmodule\n")
    whole = [path for module in batch for path in module.files]
    boxes = [path for child in children(batch, known) for path in known[child].files]
    # Boxes first: a module that is read before them is read again with them, and loses its attributes.
    lines = [yosys.read_verilog(path, "-lib") for path in dict.fromkeys(boxes) if path not in whole]
    lines += [yosys.read_verilog(path) for path in dict.fromkeys(whole)]
    lines += [
        "read_verilog wrapper.v",
        *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in names),
        # A table in LUTs is logic to Vivado; yosys would look for a distributed memory and fail.
        "setattr -set logic_block 1 a:rom_style=distributed",
        "setattr -unset rom_style a:rom_style=distributed",
        *(_FABRIC if any("use_dsp" in path.read_text("utf-8") for path in whole) else ()),
        *_mapping(f"{_COMMANDS[family]} -top {_WRAPPER}", plain),
        "tee -q -o stat.json stat -json",
    ]
    return yosys.start(batch, lines, folder=folder, limit=limit)


def _mapping(command: str, plain: bool) -> tuple[str, ...]:
    if not plain:
        return (command,)
    return (f"{command} -run begin:map_luts", *_PLAIN, f"{command} -run finalize:check")


def children(batch: Sequence[Module], known: Mapping[str, Module]) -> list[str]:
    """Modules that the batch may instantiate and that are not in it: read as black boxes."""
    words: set[str] = set()
    for module in batch:
        for path in module.files:
            words |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return sorted((words & known.keys()) - {module.name for module in batch})


def _counts(run: yosys.Run[list[Module]]) -> dict[str, dict[str, int]]:
    """Cells by type of each module of the batch that yosys finished."""
    try:
        statistics = json.loads((run.folder / "stat.json").read_text(encoding="utf-8"))["modules"]
    except (OSError, ValueError, KeyError):
        return {}
    found = {name: entry.get("num_cells_by_type", {}) for name, entry in statistics.items()}
    instances = found.get(f"\\{_WRAPPER}", {})  # yosys lists no module that is empty
    return {
        module.name: found.get(f"\\{module.name}", {})
        for module in run.task
        if module.name in instances
    }


def synthesise_modules(
    modules: Sequence[Module],
    *,
    family: str,
    limit: float,
    progress: Progress,
    boxes: Sequence[Module] = (),
    logs: Path | None = None,
    jobs: int | None = None,
) -> list[ModuleResources]:
    """Map every module to a family, a few at a time.

    Parameters
    ----------
    modules : sequence of Module
        All modules of a design; each may instantiate the others.
    family : str
        What to map to: ``"xcup"``, ``"xcu"``, ``"xc7"`` or ``"ecp5"``.
    limit : float
        Seconds for one module. A module that is not finished then keeps its estimate.
    progress : Progress
        Is told how many modules are done.
    boxes : sequence of Module
        What they may instantiate besides, and is not mapped.
    logs : Path, optional
        Folder for the logs of modules that failed.
    jobs : int, optional
        Processes at a time; as many as there are processors (at most 4) if left out.

    Returns
    -------
    list of ModuleResources
        In the order of `modules`.
    """
    known = {module.name: module for module in (*modules, *boxes)}
    waiting = _batches(modules)
    plain: set[str] = set()
    jobs = jobs or min(os.cpu_count() or 1, 4)
    done: dict[str, ModuleResources] = {}
    with tempfile.TemporaryDirectory(prefix="hwgen-synth-") as scratch:
        for run in yosys.finished(
            waiting,
            lambda batch: _start(
                batch, known, family, limit, scratch, plain=batch[0].name in plain
            ),
            jobs,
        ):
            counted = {} if run.late else _counts(run)
            failed = [module for module in run.task if module.name not in counted]
            for name, cells in counted.items():
                own = {
                    cell: n
                    for cell, n in sorted(cells.items())
                    if cell not in known and not cell.startswith("$")  # $scopeinfo is a note
                }
                done[name] = ModuleResources(
                    name=name,
                    count=known[name].count,
                    basis="yosys",
                    resources=resources_of(own),
                    cells=own,
                    note="mapped by abc, abc9 failed" if name in plain else "",
                )
            alone = len(run.task) == 1 and run.task[0].name not in plain
            if alone and family != "ecp5" and "Assert `" in run.failure and not run.late:
                plain.update(module.name for module in failed)
                waiting += [[module] for module in failed]
            elif len(run.task) > 1:  # one of them is to blame: each alone
                waiting += [[module] for module in failed]
            else:
                for module in failed:
                    done[module.name] = _unfinished(module, run, limit if run.late else 0, logs)
            progress.advance(len(done), len(modules), f"{len(done)} of {len(modules)} modules")
    return [done[module.name] for module in modules]


def _batches(modules: Iterable[Module]) -> list[list[Module]]:
    """Small modules together, the largest first so that they do not finish last."""
    batches: list[list[Module]] = []
    room = 0
    for size, _, module in sorted(((_size(m), m.name, m) for m in modules), reverse=True):
        if not batches or size > room or len(batches[-1]) == _BATCH_MODULES:
            batches.append([])
            room = _BATCH_CHARACTERS
        batches[-1].append(module)
        room -= size
    return batches


def _size(module: Module) -> int:
    """Characters of its text; what a loop repeats may be of any size, and fills a batch."""
    texts = [path.read_text(encoding="utf-8") for path in module.files]
    loops = any(re.search(r"\bfor\s*\(", text) for text in texts)
    return max(sum(map(len, texts)), _BATCH_CHARACTERS if loops else 0)


def _unfinished(
    module: Module, run: yosys.Run[list[Module]], limit: float, logs: Path | None
) -> ModuleResources:
    note = f"not finished in {limit:g} s" if limit else run.failure
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{module.name}.log").write_text(run.log, encoding="utf-8")
    return _estimated(module, note)


def _estimated(module: Module, note: str) -> ModuleResources:
    return ModuleResources(
        name=module.name,
        count=module.count,
        basis="unknown" if module.estimate is None else "estimate",
        resources=module.estimate or Resources(),
        note=note,
    )


# A build folder.


def synthesise(
    out: Path, progress: Progress, limit: float = 900, *, jobs: int | None = None
) -> SynthesisResult:
    """Count what a build takes on its target, and write it to synth.json and into its report.

    Parameters
    ----------
    out : Path
        A folder that ``hwgen build`` wrote.
    progress : Progress
        Where steps are reported.
    limit : float
        Seconds for one module.
    jobs : int, optional
        Processes at a time, see `synthesise_modules`.

    Raises
    ------
    DesignError
        If `out` is not a build.
    SynthesisError
        If yosys is missing, or finished no module.
    """
    yosys.require()
    design = load_json(out / "design.json")
    if design.get("kind") == "kernel":
        raise DesignError(f"{out} is a kernel: synth counts resources of models only")
    card = TargetCard.model_validate(design["target"])
    every = modules_of(out, design)
    modules = [m for m in every if not in_memory(m.name)]
    memory = [m for m in every if in_memory(m.name)]
    logs = out / "synth"
    shutil.rmtree(logs, ignore_errors=True)
    started = time.monotonic()
    with (
        progress.step("synth", f"{len(modules)} unique modules for {card.family}") as step,
        tempfile.TemporaryDirectory(prefix="hwgen-samples-") as folder,
    ):
        array = _sampled(design, modules, Path(folder))
        counted = synthesise_modules(
            [m for m in modules if m is not array.module] + array.small if array else modules,
            family=card.family, limit=limit, progress=progress, logs=logs, jobs=jobs,
            boxes=[*memory, *([array.module] if array else [])],
        )  # fmt: skip
        if array:
            counted = array.put_together(counted)
        result = SynthesisResult(
            top=design["top"],
            target=card.name,
            family=card.family,
            tool="; ".join(
                [f"yosys {yosys.version()} {_COMMANDS[card.family]}"]
                + [f"{m.name} {m.note}" for m in counted if m.basis == "yosys" and m.note]
            ),
            modules=tuple(sorted(counted, key=lambda module: module.name)),
            available=Resources(
                lut=card.lut_usable,
                ff=card.ff,
                dsp=card.dsp_usable,
                bram=card.bram.usable,
                uram=card.uram.usable,
            ),
            seconds=round(time.monotonic() - started, 1),
        )
        if len(result.uncounted) == len(modules):
            raise SynthesisError(
                f"yosys finished no module: {result.uncounted[0].note}; see {logs}"
            )
        step.detail += f", {len(result.uncounted)} not finished" if result.uncounted else ""
    from generators.report import apply_synthesis  # which imports this file

    write(out / "synth.json", result.model_dump_json(indent=2) + "\n")
    apply_synthesis(out, result)
    return result


def modules_of(out: Path, design: Mapping[str, Any]) -> list[Module]:
    """The unique modules of a build, by what its ``design.json`` says."""
    return [_module(out, entry) for entry in design["modules"]]


@dataclass
class _Sampled:
    """An array of multipliers, and the small ones that stand for it (see `generators.sampling`)."""

    module: Module
    small: list[Module]
    weights: list[int]
    shapes: list[str]

    def put_together(self, counted: list[ModuleResources]) -> list[ModuleResources]:
        """The array in the place of its samples, which are the last of `counted`."""
        rest, found = counted[: -len(self.small)], counted[-len(self.small) :]
        failed = next((sample for sample in found if sample.basis != "yosys"), None)
        if failed is not None:
            note = f"{failed.name}, a part of it: {failed.note}"
            return [*rest, _estimated(self.module, note)]
        cells = combine([(w, s.cells) for w, s in zip(self.weights, found, strict=True)])
        array = ModuleResources(
            name=self.module.name,
            count=self.module.count,
            basis="yosys",
            resources=resources_of(cells),
            cells=cells,
            note=f"from arrays of {' and '.join(self.shapes)}",
        )
        return [*rest, array]


def _sampled(design: Mapping[str, Any], modules: Sequence[Module], folder: Path) -> _Sampled | None:
    """Write the samples of a build's array; None if it is mapped whole, or is not as it is made now."""
    if "array" not in design.get("parameters", {}):
        return None
    from hw.core.accelerator import make_core_engine
    from hw.core.config import CoreConfig

    engine = make_core_engine(CoreConfig(**design["parameters"]))
    whole = next((module for module in modules if module.name == engine.module_name), None)
    if whole is None or whole.files[0].read_text("utf-8") != engine.render():
        return None
    found = samples(engine)
    small = []
    for sample in found:
        path = folder / f"{sample.engine.module_name}.sv"
        path.write_text(sample.engine.render(), encoding="utf-8")
        small.append(Module(name=sample.engine.module_name, files=(path,), count=0))
    weights, shapes = [s.weight for s in found], [s.shape for s in found]
    return _Sampled(whole, small, weights, shapes) if found else None


def _module(out: Path, entry: Mapping[str, Any]) -> Module:
    name, file = entry["name"], entry["file"]
    if not (isinstance(file, str) and re.fullmatch(r"\w+\.s?v", file)) or not (
        isinstance(name, str) and re.fullmatch(r"[A-Za-z_]\w*", name)
    ):  # they will stand in scripts, which can start programs
        raise DesignError(f"{out / 'design.json'}: {name!r} in {file!r} is no module of a build")
    path = out / "rtl" / file
    if not path.is_file():
        raise DesignError(f"{path} is missing: build it again")
    return Module(
        name=entry["name"],
        files=(path.resolve(),),
        count=entry["count"],
        estimate=Resources.model_validate(entry["estimate"]) if entry.get("estimate") else None,
    )


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a build."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DesignError(
            f"{path.parent} has no {path.name}: give a folder that hwgen build wrote"
        ) from None
    except ValueError as error:
        raise DesignError(f"{path} is not JSON ({error}): build it again") from None


def refresh_manifest(out: Path, names: Iterable[str]) -> None:
    """Tell the manifest the sizes of files that were written anew: the build is still unchanged."""
    path = out / manifest.FILE
    if not path.is_file():
        return
    content = load_json(path)
    for name in names:
        content["outputs"][name] = (out / name).stat().st_size
    write(path, json.dumps(content, indent=2) + "\n")
