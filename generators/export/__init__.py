# SPDX-License-Identifier: Apache-2.0
"""From a finished build to a project of another tool: one module for each flow, listed here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from designs import catalogue
from designs.errors import DesignError
from designs.progress import Progress
from generators import manifest
from generators.export import ecp5, openlane, quartus, vitis, vivado
from generators.export.flow import Flow, Options
from generators.export.project import load
from generators.files import check_out, new_folder

__all__ = ["FLOWS", "Exported", "Options", "export", "find_flow"]

FLOWS: dict[str, Flow] = {
    flow.name: flow for flow in (vitis.FLOW, vivado.FLOW, quartus.FLOW, openlane.FLOW, ecp5.FLOW)
}
"""Every flow by its name on the command line."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    folder : where
    files : how many files
    next : the command to run in it
    """

    folder: Path
    files: int
    next: str


def find_flow(name: str) -> Flow:
    """The flow of that name.

    Raises
    ------
    DesignError
        If there is none, with the nearest.
    """
    if name not in FLOWS:
        raise DesignError(catalogue.unknown("flow", name, list(FLOWS)))
    return FLOWS[name]


def export(out: Path, name: str, to: Path | None, options: Options, progress: Progress) -> Exported:
    """Write a build as a project of a flow's tools; it appears only when it is whole.

    Parameters
    ----------
    out : a folder that ``hwgen build`` or ``hwgen engine`` wrote
    name : a key of `FLOWS`
    to : the folder to write; None: ``OUT/export/NAME``

    Raises
    ------
    DesignError
        For an unknown flow, a folder that is no finished build or was edited, a target or an option that
        the flow cannot take, and an output folder that is not ours.
    """
    flow = find_flow(name)
    flow.check(options)
    to = to or out / "export" / name
    with progress.step("check", "digests of the build"):
        project = load(out)
    _check_place(out, to)
    with progress.step("export", flow.description) as step:
        files = flow.files(project, options)
        with new_folder(to) as folder:
            for path, content in sorted(files.items()):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, Path):
                    shutil.copyfile(content, target)
                else:
                    target.write_text(content, encoding="utf-8")
                    if content.startswith("#!"):
                        target.chmod(0o755)
            manifest.write(folder, {"export": name, "of": project.title})
        step.detail = f"{len(files)} files"
    return Exported(to, len(files), flow.next)


def _check_place(out: Path, to: Path) -> None:
    """Raise DesignError if an export there would destroy the build or something else."""
    inner, outer = to.resolve(), out.resolve()
    if inner == outer or inner in outer.parents or inner.is_relative_to(outer / "rtl"):
        raise DesignError(f"{to} is the build itself, or holds it; give another folder by -o")
    check_out(to)
