# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses as YAML and back, and the differences of two of them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import yaml

from schedules.errors import ScheduleError
from schedules.problem import nearest

__all__ = ["differences", "flow", "parse", "plain", "restore"]

NAMED = "named"
"""Metadata of a field: a tuple of values that is written as a mapping by name."""
KEY = "key"
"""Metadata of a field: what it is called in YAML."""


def plain(value: Any) -> Any:
    """A value as dictionaries, lists, numbers and texts; fields at their default are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        data = {}
        for field in dataclasses.fields(value):
            content = getattr(value, field.name)
            if content == field.default and field.default is not dataclasses.MISSING:
                continue
            if field.metadata.get(NAMED):
                rows = {item.name: plain(item) for item in content}
                for row in rows.values():
                    del row["name"]
                data[_key(field)] = rows
            else:
                data[_key(field)] = plain(content)
        return data
    if isinstance(value, tuple):
        if value and all(
            isinstance(v, tuple) and len(v) == 2 and isinstance(v[1], tuple) for v in value
        ):
            return {name: plain(content) for name, content in value}
        return [plain(item) for item in value]
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else str(value)
    return value


def restore(cls: type, data: Any, where: str) -> Any:
    """The dataclass that :func:`plain` wrote; raises ScheduleError naming ``where``."""
    if not isinstance(data, dict):
        raise ScheduleError(f"{where} must be a mapping, not {data!r}")
    known = {_key(field): field for field in dataclasses.fields(cls)}
    for key in data:
        if key not in known:
            raise ScheduleError(f"{where}: field {key} is not known{nearest(str(key), known)}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, field in known.items():
        if key in data:
            values[field.name] = _value(
                hints[field.name], data[key], f"{where}: {key}", bool(field.metadata.get(NAMED))
            )
        elif field.default is dataclasses.MISSING:
            raise ScheduleError(f"{where}: field {key} is missing")
    return cls(**values)


def flow(value: Any) -> str:
    """YAML on one line."""
    return yaml.dump(
        value, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), default_flow_style=True,
        sort_keys=False, width=1 << 30,
    ).removesuffix("...\n").rstrip("\n")  # fmt: skip


def parse(text: str) -> dict[str, Any]:
    """A YAML mapping; raises ScheduleError for anything else."""
    try:
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ScheduleError(
            f"Schedule is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(data, dict):
        raise ScheduleError("Schedule must be a mapping with tensors, tasks and phases")
    return data


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """One line for each place in which two plain values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            inner = f"{where}.{key}" if where else str(key)
            if key not in new:
                yield f"- {inner}: {flow(old[key])}"
            elif key not in old:
                yield f"+ {inner}: {flow(new[key])}"
            else:
                yield from differences(old[key], new[key], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{where}[{index}]")
    elif old != new:
        yield f"~ {where}: {flow(old)} -> {flow(new)}"


def _key(field: dataclasses.Field) -> str:
    return field.metadata.get(KEY, field.name)


def _value(hint: Any, data: Any, where: str, named: bool = False) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return _tuple(arguments, data, where, named)
    if dataclasses.is_dataclass(hint):
        return restore(typing.cast(type, hint), data, where)
    if hint is Fraction:
        try:
            return Fraction(data)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise ScheduleError(f"{where} must be a number, not {data!r}") from error
    allowed = arguments if origin in (types.UnionType, typing.Union) else (hint,)
    if not isinstance(data, allowed) or (isinstance(data, bool) and bool not in allowed):
        names = " or ".join(getattr(a, "__name__", str(a)) for a in allowed)
        raise ScheduleError(f"{where} must be {names}, not {data!r}")
    return data


def _tuple(arguments: tuple[Any, ...], data: Any, where: str, named: bool) -> tuple:
    item = arguments[0]
    if named or (typing.get_origin(item) is tuple and isinstance(data, dict)):
        if not isinstance(data, dict):
            raise ScheduleError(f"{where} must be a mapping by name, not {data!r}")
        if named:
            return tuple(
                restore(
                    item, {"name": name} | row if isinstance(row, dict) else row, f"{where} {name}"
                )
                for name, row in data.items()
            )
        inner = typing.get_args(item)[1]
        return tuple((name, _value(inner, row, f"{where}: {name}")) for name, row in data.items())
    if not isinstance(data, list):
        raise ScheduleError(f"{where} must be a list, not {data!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_value(item, row, f"{where}[{index}]") for index, row in enumerate(data))
    if len(data) != len(arguments):
        raise ScheduleError(f"{where} must have {len(arguments)} items, not {len(data)}")
    return tuple(_value(a, row, where) for a, row in zip(arguments, data, strict=True))
