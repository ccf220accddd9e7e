# SPDX-License-Identifier: Apache-2.0
"""Catalogues: folders of YAML cards below designs/, one card per file, found by name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from designs.errors import DesignError

ROOT = Path(__file__).resolve().parent
"""The folder that holds the catalogues (``models/``, ``targets/``)."""

Card = TypeVar("Card", bound=BaseModel)


def names(folder: str) -> list[str]:
    """Return the names of all cards in a catalogue, sorted.

    Parameters
    ----------
    folder : str
        ``"models"`` or ``"targets"``: a folder below designs/.
    """
    return sorted(path.stem for path in (ROOT / folder).glob("*.yaml"))


def load(folder: str, kind: str, name: str, model: type[Card]) -> Card:
    """Load a card by its name.

    Parameters
    ----------
    folder : str
        ``"models"`` or ``"targets"``: a folder below designs/.
    kind : str
        What the user calls a card of this folder (``"model"``, ``"target"``), for messages.
    name : str
        The card's name: its file name without ``.yaml``.
    model : type of pydantic.BaseModel
        What the YAML is validated against. If it has a field ``name``, the field must equal the
        file's name, and may be left out of the file.

    Raises
    ------
    DesignError
        If there is no such card (with the nearest match), or the file is not a valid card.
    """
    known = names(folder)
    if name not in known:
        raise DesignError(unknown(kind, name, known, hint=f"hwgen list {folder}"))
    return load_file(ROOT / folder / f"{name}.yaml", model, name=name)


def unknown(kind: str, name: str, known: list[str], *, hint: str = "") -> str:
    """Return the message for an unknown name, with the nearest known one.

    ``model "gpt2-medum" is not known; did you mean gpt2-medium? (hwgen list models)``
    """
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    if near:
        advice = f"did you mean {near[0]}?"
    elif known:
        advice = f"known are {', '.join(known)}"
    else:
        advice = "none is known"
    return f'{kind} "{name}" is not known; {advice}' + (f" ({hint})" if hint else "")


def load_file(path: Path, model: type[Card], *, name: str | None = None) -> Card:
    """Load a card from a YAML file.

    Parameters
    ----------
    path : Path
        The file.
    model : type of pydantic.BaseModel
        What its content is validated against.
    name : str, optional
        The name the card must have, if `model` has a field ``name``; filled in when absent.

    Raises
    ------
    DesignError
        One line that names the file and the line or field at fault.
    """
    shown = f"{path.parent.name}/{path.name}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DesignError(f"{shown} cannot be read: {_one_line(error)}") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or _one_line(error)
        raise DesignError(f"{shown}{where}: not valid YAML: {problem}") from error
    except (ValueError, RecursionError) as error:  # a date that is none; lists in lists without end
        raise DesignError(f"{shown}: not valid YAML: {_one_line(error)}") from error
    if not isinstance(data, dict):
        raise DesignError(
            f"{shown}: a card is a mapping of fields to values, not {_yaml_kind(data)}"
        )
    if name is not None and "name" in model.model_fields:
        data.setdefault("name", name)
    try:
        card = model.model_validate(data)
    except ValidationError as error:
        raise DesignError(f"{shown}: {explain(error, model)}") from error
    if name is not None and "name" in model.model_fields and data["name"] != name:
        raise DesignError(f'{shown}: name is "{data["name"]}", but the file says "{name}"')
    return card


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return a pydantic error as one line: every field at fault, what it holds, what it should.

    Parameters
    ----------
    error : pydantic.ValidationError
        The error.
    model : type of pydantic.BaseModel, optional
        The model that was validated against: misspelt fields then get the nearest match.
    """
    fields = list(model.model_fields) if model is not None else []
    parts = []
    for item in error.errors():
        if item["type"] == "default_factory_not_called":
            continue  # what it depends on is at fault, and named
        where = ".".join(str(step) for step in item["loc"]) or "the card"
        if item["type"] == "missing":
            parts.append(f"field {where} is missing")
        elif item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, fields, n=1)
            advice = f"; did you mean {near[0]}?" if near else ""
            parts.append(f"field {where} is not known{advice}")
        else:
            message = item["msg"].removeprefix("Value error, ").strip()
            message = message[:1].lower() + message[1:]
            scalar = isinstance(item["input"], str | int | float | bool | type(None))
            given = f", not {item['input']!r}" if scalar else ""
            parts.append(f"field {where}: {message}{given}" if item["loc"] else message)
    return " ".join("; ".join(parts).split())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _yaml_kind(data: object) -> str:
    if data is None:
        return "an empty file"
    return f"a {type(data).__name__}"
