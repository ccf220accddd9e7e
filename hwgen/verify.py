# SPDX-License-Identifier: Apache-2.0
"""``hwgen verify``: from what was asked for to a report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from designs.cache import cache_folder
from designs.errors import DesignError
from designs.progress import Progress
from generators.files import new_folder
from sim.hls import is_hls
from sim.verify.campaign import Result, Settings, run_campaign
from sim.verify.candidates import Standing, pairs, rank_candidates
from sim.verify.hls import HlsGrade, grade_hls
from sim.verify.llm.exchange import Exchanges, Mode
from sim.verify.llm.proposer import Allowance, LlmProposer
from sim.verify.llm.providers import connect, parse_provider
from sim.verify.parts import Part, grade_parts, write_parts
from sim.verify.references import NOTES, find_reference
from sim.verify.report import write_report
from sim.verify.specification import read_specification
from sim.verify.subject import elaborate

__all__ = [
    "LlmRequest",
    "VerifyRequest",
    "build_of",
    "is_kernel",
    "parameters",
    "verify",
    "verify_build",
    "verify_candidates",
    "verify_kernel",
]


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
    llm: LlmRequest = field(default_factory=lambda: LlmRequest())


@dataclass(frozen=True)
class LlmRequest:
    """Which model proposes too.

    Parameters
    ----------
    model : ``offline`` (none), or ``PROVIDER:MODEL``.
    url : of a server of the same protocol, instead of the provider's own.
    fallback : go on without it if it cannot be asked.
    record, replay : folder to keep all exchanges in, or to take them from instead of asking.
    """

    model: str = "offline"
    url: str | None = None
    tokens: int = 200_000
    fallback: bool = False
    record: Path | None = None
    replay: Path | None = None


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
    proposer = _proposer(request, spec.prose if spec else "")
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
        result = run_campaign(
            subject, settings, folder, progress, required=required,
            proposers=[proposer] if proposer else [],
            reference=find_reference(files[0].parent, subject.top),
        )  # fmt: skip
        spent = proposer.spent() if proposer else {}
        asked = _asked(settings) | {"llm": request.llm.model, "spent": spent}
        with new_folder(out) as fresh:
            write_report(result, asked, fresh)
    return result, out


def build_of(request: VerifyRequest) -> dict[str, Any] | None:
    """What the manifest of a whole build says, if one is to be verified, part by part; else None."""
    if len(request.targets) != 1 or request.top is not None or request.spec is not None:
        return None
    try:
        return json.loads((request.targets[0] / "design.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def verify_build(
    request: VerifyRequest, design: Mapping[str, Any], progress: Progress
) -> tuple[list[Part], Path]:
    """Grade each module of a build and write one report.

    Parameters
    ----------
    design : what the manifest says: ``top`` and ``modules``.

    Raises
    ------
    DesignError
        If the build's files are not those of its manifest, or there is no time.
    """
    settings = request.settings
    if settings.seconds <= 0:
        raise DesignError("--budget 0 leaves no time to verify anything; give seconds")
    files, _, beside = _sources(request)
    listed = [str(module["file"]) for module in design["modules"]]
    missing = sorted(set(listed) - {path.name for path in files})
    if missing:
        raise DesignError(f"{files[0].parent}: there is no {missing[0]}, which design.json lists")
    out = request.out or beside
    _check_out(out)
    asked = _asked(settings)
    with tempfile.TemporaryDirectory(prefix="hwgen-verify-") as name, new_folder(out) as fresh:
        parts = grade_parts(
            files[0].parent, design["modules"], settings, Path(name), fresh, progress, asked
        )
        write_parts(design["top"], parts, asked, fresh)
    return parts, out


def _asked(settings: Settings) -> dict[str, Any]:
    return {
        "seed": settings.seed, "cycles": settings.cycles, "mutants": settings.mutants,
        "rounds": settings.rounds, "budget": settings.seconds,
    }  # fmt: skip


def is_kernel(request: VerifyRequest) -> bool:
    """Whether an HLS kernel is to be verified, by its C-simulation."""
    return len(request.targets) == 1 and is_hls(request.targets[0])


def verify_kernel(request: VerifyRequest, progress: Progress) -> tuple[HlsGrade, Path]:
    """Grade the C-simulation of an HLS kernel under seeded bugs, and write the report.

    Raises
    ------
    ToolError
        If there is no compiler or no ``ap_int.h``, or the kernel does not compile.
    """
    target, settings = request.targets[0], request.settings
    out = request.out or target.with_name(f"{target.resolve().name}.verify")
    _check_out(out)
    with tempfile.TemporaryDirectory(prefix="hwgen-verify-") as name:
        grade = grade_hls(
            target, Path(name), count=settings.mutants, seed=settings.seed, seconds=settings.seconds,
            progress=progress,
        )  # fmt: skip
        with new_folder(out) as fresh:
            text = json.dumps(grade.report(), indent=1) + "\n"
            (fresh / "report.json").write_text(text, encoding="utf-8")
    return grade, out


def verify_candidates(
    request: VerifyRequest, candidates: Path, progress: Progress
) -> tuple[list[Standing], Path]:
    """Rank implementations of a specification against a reference, and write the pairs they make.

    Raises
    ------
    DesignError
        If there are no candidates, or no specification for the pairs' prompt.
    """
    if request.spec is None:
        raise DesignError("--candidates needs --spec: what the candidates implement")
    spec = read_specification(request.spec)
    if not candidates.is_dir():
        raise DesignError(f"{candidates}: there is no such folder")
    found = sorted(p for p in candidates.iterdir() if p.suffix in (".v", ".sv"))
    if not found:
        raise DesignError(f"{candidates}: there is no Verilog in it")
    files, top, beside = _sources(request)
    out = request.out or beside
    _check_out(out)
    settings = request.settings
    with tempfile.TemporaryDirectory(prefix="hwgen-verify-") as name:
        folder = Path(name)
        reference = elaborate(
            files, folder / "n", top=top, include=request.include, define=request.define
        )
        standings = rank_candidates(
            reference,
            found,
            spec.required(reference),
            folder,
            settings.effort,
            settings.seed,
            progress,
        )
        with new_folder(out) as fresh:
            ranking = [{"name": s.name, "score": s.score, **s.evidence} for s in standings]
            report = {"schema": 1, "reference": reference.top, "candidates": ranking}
            (fresh / "report.json").write_text(
                json.dumps(report, indent=1) + "\n", encoding="utf-8"
            )
            lines = pairs(standings, spec.prose, reference)
            (fresh / "pairs.jsonl").write_text(
                "".join(f"{line}\n" for line in lines), encoding="utf-8"
            )
    return standings, out


def _proposer(request: VerifyRequest, prose: str) -> LlmProposer | None:
    """The model that was asked for, or None."""
    llm = request.llm
    chosen = parse_provider(llm.model)
    if chosen is None:
        return None
    if llm.record and llm.replay:
        raise DesignError("give --llm-record or --llm-replay, not both")
    mode: Mode = "replay" if llm.replay else "record" if llm.record else "cache"
    transport = None if llm.replay else connect(*chosen, llm.url)
    folder = llm.replay or llm.record or cache_folder() / "llm"
    exchanges = Exchanges(llm.model, transport, folder, mode)
    return LlmProposer(exchanges, prose, Allowance(llm.tokens), llm.fallback)


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
    for note in NOTES:
        if top is None and (first / note).is_file():
            top = json.loads((first / note).read_text(encoding="utf-8")).get("top")
    return files, top, first.with_name(f"{first.resolve().name}.verify")


def _check_out(out: Path) -> None:
    """Refuse to replace what is no report."""
    if out.exists() and not out.is_dir():
        raise DesignError(f"{out} exists and is not a folder; give another by -o")
    if out.is_dir() and any(out.iterdir()) and not (out / "report.json").is_file():
        raise DesignError(f"{out} exists and is no report of hwgen verify; give another by -o")
