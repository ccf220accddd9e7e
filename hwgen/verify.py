"""``hwgen verify``: from what was asked for to a report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from designs.errors import DesignError
from designs.progress import Progress
from generators.files import new_folder
from sim.verify.campaign import Result, Settings, run_campaign
from sim.verify.report import write_report
from sim.verify.specification import read_specification
from sim.verify.subject import elaborate

__all__ = ["VerifyRequest", "parameters", "verify"]


@dataclass(frozen=True)
class VerifyRequest:
    """What is verified and how.

    Parameters
    ----------
    targets : Verilog files, or one folder that hwgen wrote.
    top : the module; without it, the one that no other instantiates.
    spec : a text or a file.
    out : folder of the report; without it, beside the target.
    """

    targets: Sequence[Path]
    top: str | None
    spec: str | None
    settings: Settings
    out: Path | None
    clock: str | None = None
    reset: str | None = None
    parameters: Mapping[str, int] | None = None
    include: Sequence[Path] = ()
    define: Sequence[str] = ()


def parameters(texts: Sequence[str]) -> dict[str, int]:
    """Values of ``NAME=VALUE``."""
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        try:
            found[name] = int(value, 0)
        except ValueError:
            sign = ""
        if not sign or not name.isidentifier():
            raise DesignError(f"--parameter {text} is not NAME=NUMBER")
    return found


def verify(request: VerifyRequest, progress: Progress) -> tuple[Result, Path]:
    """Verify a module and write its report; returns the result and the report's folder.

    Raises
    ------
    DesignError
        If what was asked for cannot be: files, module, clock, specification, budget.
    ToolError
        If a tool is missing or failed.
    """
    settings = request.settings
    if settings.seconds <= 0:
        raise DesignError("--budget 0 leaves no time to verify anything; give seconds")
    spec = read_specification(request.spec) if request.spec is not None else None
    files, top, beside = _sources(request)
    out = request.out or beside
    _check_out(out)
    with tempfile.TemporaryDirectory(prefix="hwgen-verify-") as name:
        folder = Path(name)
        with progress.step("read") as step:
            subject = elaborate(
                files, folder / "netlist", top=top, parameters=request.parameters,
                include=request.include, define=request.define, clock=request.clock,
                reset=request.reset,
            )  # fmt: skip
            step.detail = f"{subject.top}, {subject.cells:,} cells"
        required = spec.required(subject) if spec else []
        result = run_campaign(subject, settings, folder, progress, required=required)
        asked: dict[str, Any] = {
            "seed": settings.seed, "cycles": settings.cycles, "mutants": settings.mutants,
            "rounds": settings.rounds, "budget": settings.seconds, "llm": "offline",
        }  # fmt: skip
        with new_folder(out) as fresh:
            write_report(result, asked, fresh)
    return result, out


def _sources(request: VerifyRequest) -> tuple[list[Path], str | None, Path]:
    """Files, top module, and where a report goes if nobody says."""
    if not request.targets:
        raise DesignError("give a Verilog file, or a folder that hwgen wrote")
    first = request.targets[0]
    if not first.is_dir():
        return list(request.targets), request.top, Path(f"{request.top or first.stem}.verify")
    if len(request.targets) > 1:
        raise DesignError("give one folder, or files")
    rtl = first / "rtl" if (first / "rtl").is_dir() else first
    files = sorted(p for p in rtl.iterdir() if p.suffix in (".v", ".sv"))
    if not files:
        raise DesignError(f"{first}: there is no Verilog in it")
    top = request.top
    for note in ("engine.json", "design.json"):
        if top is None and (first / note).is_file():
            top = json.loads((first / note).read_text(encoding="utf-8")).get("top")
    return files, top, first.with_name(f"{first.resolve().name}.verify")


def _check_out(out: Path) -> None:
    """Refuse to replace what is no report."""
    if out.exists() and not out.is_dir():
        raise DesignError(f"{out} exists and is not a folder; give another by -o")
    if out.is_dir() and any(out.iterdir()) and not (out / "report.json").is_file():
        raise DesignError(f"{out} exists and is no report of hwgen verify; give another by -o")
