# SPDX-License-Identifier: Apache-2.0
"""A specification: prose for whoever proposes, and lines that are properties already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from designs.errors import DesignError
from sim.verify.judge import Judgement, Proposal, admit
from sim.verify.subject import Subject

__all__ = ["Specification", "read_specification"]

_LINE = re.compile(r"^\s*(assert|assume|cover)\s*(?:(\w[\w.-]*)\s*)?:\s*(.+?)\s*;?\s*$")


@dataclass(frozen=True)
class Specification:
    """What a design is for.

    Parameters
    ----------
    prose : all of the text but the properties.
    properties : its lines ``assert NAME: PROPERTY``, ``assume ...``, ``cover ...``; each with its line.
    """

    prose: str
    properties: tuple[tuple[int, Proposal], ...]

    def required(self, subject: Subject) -> list[Proposal]:
        """Its properties, each of which must be one of this design.

        Raises
        ------
        DesignError
            With the line of one that is not.
        """
        proposals = [p for _, p in self.properties]
        for (line, _), found in zip(self.properties, admit(proposals, subject), strict=True):
            if isinstance(found, Judgement):
                raise DesignError(f"--spec, line {line}: {found.reason}")
        return proposals


def read_specification(text: str) -> Specification:
    """Read a specification from a file of that name, or from the text itself.

    Raises
    ------
    DesignError
        If there is nothing in it.
    """
    name = text
    if len(text) < 1000 and "\n" not in text and Path(text).is_file():
        text = Path(text).read_text(encoding="utf-8", errors="replace")
    elif len(text) < 200 and re.fullmatch(r"[\w./-]+\.(?:txt|md|spec|sva)", text.strip()):
        raise DesignError(f"{name}: there is no such file")
    if not text.strip():
        raise DesignError("the specification is empty; --spec takes a text or a file with one")
    prose, properties = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _LINE.match(line):
            properties.append((number, Proposal.model_validate({
                "kind": found[1], "name": found[2] or f"line{number}", "property": found[3][:600],
                "source": "spec",
            })))  # fmt: skip
        else:
            prose.append(line)
    return Specification("\n".join(prose).strip(), tuple(properties))
