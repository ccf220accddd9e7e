# SPDX-License-Identifier: Apache-2.0
"""What a flow is: one module that turns a project into files; `generators.export` lists them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from designs.errors import DesignError
from generators.export.project import AcceleratorProject, Project
from hw.templates import environment

__all__ = ["Content", "Flow", "Options", "accelerator", "given", "render"]

Content = str | Path
"""Of a file: its text, or the file to copy."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Options:
    """What a user may ask of a flow, beside the flow; None: the flow chooses.

    Attributes
    ----------
    part : the vendor's part number
    pdk : process design kit of an ASIC
    clock_mhz : the clock to ask for
    """

    part: str | None = None
    pdk: str | None = None
    clock_mhz: float | None = None


@dataclass(frozen=True)
class Flow:
    """One way out of hwgen.

    Attributes
    ----------
    name : on the command line
    description : one line
    files : the files of an exported project by their paths in it. Raises DesignError for a project, a
        target or an option that the flow cannot take, and says what would be right.
    next : the command that a user runs in the exported folder
    options : the fields of `Options` that it takes
    """

    name: str
    description: str
    files: Callable[[Project, Options], Mapping[str, Content]]
    next: str
    options: tuple[str, ...] = ()

    def check(self, options: Options) -> None:
        """Raise DesignError for an option that the flow does not take."""
        for field in fields(options):
            if getattr(options, field.name) is not None and field.name not in self.options:
                raise DesignError(f"{_option(field.name)} is not an option of the flow {self.name}")

    @property
    def option_names(self) -> tuple[str, ...]:
        """The options that it takes, as on the command line."""
        return tuple(_option(name) for name in self.options)


def _option(field: str) -> str:
    return f"--{field.removesuffix('_mhz').replace('_', '-')}"


def accelerator(project: Project, flow: str) -> AcceleratorProject:
    """The project, if it is a whole accelerator.

    Raises
    ------
    DesignError
        If it is an engine alone.
    """
    if not isinstance(project, AcceleratorProject):
        raise DesignError(
            f"the flow {flow} takes a whole accelerator, and {project.folder} is an engine alone; "
            "hwgen build MODEL makes one"
        )
    return project


def given(value: Value | None, default: Value) -> Value:
    """The value, if there is one."""
    return default if value is None else value


def render(names: Iterable[str], flow: str, **context: Any) -> dict[str, Content]:
    """Render ``templates/FLOW/NAME.j2`` for each name; ``tcl`` makes a word of Tcl of any text."""
    templates = environment(Path(__file__).parent / "templates")
    templates.filters["tcl"] = _tcl
    return {name: templates.get_template(f"{flow}/{name}.j2").render(context) for name in names}


def _tcl(text: str) -> str:
    """A text as one word of Tcl, nothing in it substituted."""
    special = '\\{}[]$"; \t\n'
    return "".join(f"\\{c}" if c in special else c for c in text) or "{}"
