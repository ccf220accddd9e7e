# SPDX-License-Identifier: Apache-2.0
"""Command traces as text: written from a simulation, and judged on their own."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from designs.errors import DesignError
from hw.pim.commands import Cmd
from hw.pim.config import PimConfig
from hw.pim.timing import PimTiming, preset
from sim.pim.controller import Timed
from sim.pim.protocol import Command, Protocol

__all__ = ["Line", "Violation", "judge", "parse", "write"]

DEBT = 8
"""Refreshes that may be owed."""


@dataclass(frozen=True)
class Line:
    """A command of a trace."""

    number: int
    cycle: int
    command: Command


@dataclass(frozen=True)
class Violation:
    """A broken rule.

    Attributes
    ----------
    line : its number.
    rule : its name.
    short : cycles that were missing; None if waiting would not have helped.
    detail : what was in the way.
    """

    line: Line
    rule: str
    short: int | None
    detail: str

    def __str__(self) -> str:
        how = f"{self.short} cycles too early" if self.short is not None else "not allowed here"
        detail = f" ({self.detail})" if self.detail else ""
        name = self.line.command.cmd.name
        return f"line {self.line.number}: {name} in cycle {self.line.cycle}: {self.rule}: {how}{detail}"


def write(config: PimConfig, commands: Iterable[Timed]) -> str:
    """The text of a trace: what differs from the defaults, then a command a line."""
    plain = PimConfig()
    lines = [f"timing {config.timing.name}"]
    lines += [
        f"channel {f.name}={_shown(getattr(config, f.name))}"
        for f in fields(config)
        if f.name != "timing" and getattr(config, f.name) != getattr(plain, f.name)
    ]
    usual = Command(Cmd.NOP)
    for cycle, command in commands:
        words = [
            f"{name}={value}"
            for name, value in command._asdict().items()
            if name != "cmd" and value != getattr(usual, name)
        ]
        lines.append(" ".join([str(cycle), command.cmd.name, *words]))
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def parse(text: str) -> tuple[PimConfig, list[Line]]:
    """Channel and commands of a trace.

    Raises
    ------
    DesignError
        If a line is not one of a trace: which, and what it should be.
    """
    timing, channel = preset("neupims-hbm"), dict[str, Any]()
    found: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        try:
            if not words:
                continue
            if words[0] == "timing":
                timing = _timing(words[1:])
            elif words[0] == "channel":
                channel |= _pairs(words[1:], {f.name: f.type for f in fields(PimConfig)})
            else:
                found.append((number, words))
        except ValueError as error:
            raise DesignError(f"line {number}: {error}") from None
    try:
        config = PimConfig(**channel, timing=timing)
    except ValueError as error:
        raise DesignError(str(error)) from None
    return config, list(_commands(config, found))


def _timing(words: list[str]) -> PimTiming:
    if not words:
        raise ValueError("timing needs the name of a set")
    numbers = {f.name: f.type for f in fields(PimTiming) if f.type is int}
    return replace(preset(words[0]), **_pairs(words[1:], numbers))


def _pairs(words: list[str], types: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in types:
            raise ValueError(f"{word!r} is not NAME=VALUE with a NAME of {', '.join(types)}")
        if types[name] in (int, bool):
            if not text.isdecimal():
                raise ValueError(f"{name} must be a whole number, not {text!r}")
            values[name] = bool(int(text)) if types[name] is bool else int(text)
        else:
            values[name] = text
    return values


def _commands(c: PimConfig, found: list[tuple[int, list[str]]]) -> Iterator[Line]:
    limits = {"bank": c.banks, "row": c.rows, "buf": c.buffers, "entry": c.entries}
    names = dict.fromkeys(Command._fields[1:], int)
    for number, words in found:
        try:
            if len(words) < 2 or not words[0].isdecimal():
                raise ValueError(f"expected CYCLE COMMAND NAME=VALUE ..., not {' '.join(words)!r}")
            if words[1] not in Cmd.__members__ or words[1] in ("NOP", "HEADER"):
                raise ValueError(f"unknown command {words[1]!r}")
            values = _pairs(words[2:], names)
            for name, limit in limits.items():
                if values.get(name, 0) >= limit:
                    raise ValueError(f"{name} must be below {limit}, not {values[name]}")
            command = Command(Cmd[words[1]], **values)
            if command.cmd is Cmd.COMPS_READRES and not (
                command.k >= 1 and max(command.col, command.gcol) + command.k <= c.cols
            ):
                raise ValueError(f"k must be 1 or more, and col + k at most {c.cols}")
        except ValueError as error:
            raise DesignError(f"line {number}: {error}") from None
        yield Line(number, int(words[0]), command)


def judge(config: PimConfig, lines: Iterable[Line]) -> Iterator[Violation]:
    """Every broken rule, in order. A command that breaks one counts as given."""
    protocol = Protocol(config)
    before, refreshes = -1, [0] * config.ranks
    complained = [False] * config.ranks
    for line in lines:
        if line.cycle <= before:
            yield Violation(line, "one command a cycle", before + 1 - line.cycle, "")
        before = max(before, line.cycle)
        for broken in protocol.violations(line.command, line.cycle):
            short = None if broken.earliest is None else broken.earliest - line.cycle
            yield Violation(line, broken.rule, short, broken.detail)
        protocol.apply(line.command, line.cycle)
        if line.command.cmd is Cmd.REF:
            refreshes[protocol.rank(line.command.bank)] += 1
        for rank in range(config.ranks):
            owed = line.cycle // config.timing.refi - refreshes[rank]
            if owed > DEBT and not complained[rank]:
                complained[rank] = True
                yield Violation(line, "refresh debt", None, f"rank {rank} owes {owed} refreshes")
