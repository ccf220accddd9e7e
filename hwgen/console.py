# SPDX-License-Identifier: Apache-2.0
"""The only file that writes to the terminal: steps, progress, tables, generated text, errors.

Results and steps go to standard output, errors and warnings to standard error. On a terminal the
step under way is one live line; elsewhere every finished step is one plain line, without colour.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

import rich.console
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from designs.progress import Step

_NAME_WIDTH = 12
"""Columns for the name of a step: the longest of a build is shorter."""

_PLAIN_PERIOD = 10.0
"""Seconds between two progress lines when the output is no terminal."""


@dataclass
class _Running:
    """A step under way, and how far it has come."""

    step: Step
    depth: int
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    note: str = ""
    reported: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the share that is done; None before there is one."""
        if not 0 < self.done <= self.total:
            return None
        return self.seconds * (self.total - self.done) / self.done


class Console:
    """Writes to the terminal, and is the `designs.progress.Progress` of every command.

    Parameters
    ----------
    out, err : text file, optional
        Where results and errors go; standard output and standard error if left out.
    terminal : bool, optional
        Whether `out` is drawn on like a terminal; found out if left out.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        terminal: bool | None = None,
    ) -> None:
        self.verbose = False
        self.quiet = False
        self._out = rich.console.Console(file=out, force_terminal=terminal, highlight=False)
        self._err = rich.console.Console(file=err, stderr=err is None, highlight=False)
        for console in (self._out, self._err):
            if not console.is_terminal:
                console.width = 10_000  # never wrap what a program or a log reads
        self._stack: list[_Running] = []
        self._live: Live | None = None
        self._line = ""  # generated text of the current line
        self._streaming = False

    @property
    def is_terminal(self) -> bool:
        """Whether results are drawn on a terminal."""
        return self._out.is_terminal

    # Progress: what the work reports.

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[Step]:
        """Show a step while it runs, and its detail and time when it has ended."""
        step = Step(name, detail)
        running = _Running(step, depth=len(self._stack))
        self._stack.append(running)
        self._start_live()
        outcome = "failed"
        try:
            yield step
            outcome = ""
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            self.end_text()
            self._stack.pop()
            if not self._stack:
                self._stop_live()
            if outcome or not self.quiet:
                self._out.print(_finished(running, outcome), soft_wrap=True)

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Say how far the innermost step has come."""
        if not self._stack:
            return
        running = self._stack[-1]
        running.done, running.total, running.note = done, total, note
        quiet = self.is_terminal or self.quiet or self._streaming
        if quiet or time.monotonic() - running.reported < _PLAIN_PERIOD:
            return
        running.reported = time.monotonic()
        self._out.print(_under_way(running), soft_wrap=True)

    # Results.

    def say(self, text: str = "") -> None:
        """Print a line of result."""
        self.end_text()
        self._out.print(Text(text), soft_wrap=True)

    def text(self, piece: str) -> None:
        """Print a piece of generated text, without a line break, as soon as it is there.

        Control characters are shown as their escape, so that no model can steer the terminal.
        """
        piece = "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in piece)
        self._streaming = True
        if self._live is None:
            self._out.file.write(piece)
            self._out.file.flush()
            self._line = (self._line + piece).rpartition("\n")[2]
            return
        # Whole lines scroll away above the live line; the last one is drawn with it.
        *whole, self._line = (self._line + piece).split("\n")
        *wrapped, last = Text(self._line).wrap(self._out, self._out.width) or [Text()]
        if wrapped:
            whole += [line.plain for line in wrapped]
            self._line = last.plain
        for line in whole:
            self._live.console.print(Text(line, style="bold"), soft_wrap=True)

    def end_text(self) -> None:
        """End the generated text with a line break, if any was printed."""
        if not self._streaming:
            return
        line, self._line, self._streaming = self._line, "", False
        if self._live is not None:
            self._live.console.print(Text(line, style="bold"), soft_wrap=True)
        elif line:
            self._out.file.write("\n")
            self._out.file.flush()

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        title: str = "",
    ) -> None:
        """Print a table; numbers stand to the right, with thousands grouped."""
        self.end_text()
        body = [list(row) for row in rows]
        table = Table(
            title=Text(title) if title else None, title_justify="left", box=None, pad_edge=False
        )
        for index, column in enumerate(columns):
            numbers = all(isinstance(row[index], int | float) for row in body) and bool(body)
            table.add_column(
                Text(column, style="bold"),
                justify="right" if numbers else "left",
                no_wrap=not self.is_terminal,
            )
        for row in body:
            table.add_row(*(Text(_cell(value)) for value in row))
        if self.is_terminal:
            self._out.print(table)
            return
        with self._out.capture() as captured:
            self._out.print(table)
        self._out.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())

    def facts(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print names with their values, one a line."""
        self.end_text()
        pairs = list(pairs)
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            line = Text(f"{name:<{width}}  ", style="dim").append(Text(_cell(value), style="none"))
            self._out.print(line, soft_wrap=True)

    # Errors.

    def warn(self, message: str) -> None:
        """Print a warning: one line on standard error."""
        self._err.print(Text.assemble(("warning: ", "yellow"), _one_line(message)), soft_wrap=True)

    def error(self, message: str) -> None:
        """Print an error: one line on standard error."""
        self._err.print(Text.assemble(("error: ", "red"), _one_line(message)), soft_wrap=True)

    def traceback(self, error: BaseException) -> None:
        """Print where an error came from: what ``-v`` adds to its one line."""
        lines = "".join(traceback.format_exception(error))
        self._err.print(Text(lines.rstrip()), soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        self._stop_live()

    def _start_live(self) -> None:
        if self._live is None and self.is_terminal and not self.quiet:
            live = Live(
                get_renderable=self._draw,
                console=self._out,
                refresh_per_second=8,
                transient=True,
            )
            live.start()
            self._live = live

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> RenderableType:
        if not self._stack:
            return Text()
        line = _bar(self._stack[-1], self._out.width)
        return Group(Text(self._line, style="bold"), line) if self._streaming else line


def _finished(running: _Running, outcome: str) -> Text:
    line = Text("  " * running.depth)
    line.append(f"{running.step.name:<{_NAME_WIDTH}}", style="red" if outcome else "green")
    middle = "  ".join(part for part in (outcome, running.step.detail) if part)
    line.append(f"  {middle:<48}")
    return line.append(f"  {duration(running.seconds):>8}", style="dim")


def _under_way(running: _Running) -> Text:
    parts = [f"{running.step.name:<{_NAME_WIDTH}}"]
    if running.total:
        parts.append(f"{100 * running.done // running.total} %")
    parts += [running.note] if running.note else []
    left = running.seconds_left
    parts += [f"{duration(left)} left"] if left is not None else []
    return Text("  " * running.depth + "  ".join(parts))


def _bar(running: _Running, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    cells: list[RenderableType] = [
        Spinner("dots", style="cyan"),
        Text(running.step.name, style="cyan", no_wrap=True),
        Text(running.step.detail, no_wrap=True, overflow="ellipsis"),
    ]
    if running.total:
        cells.append(
            ProgressBar(total=running.total, completed=running.done, width=min(30, width // 3))
        )
        cells.append(Text(f"{100 * running.done // running.total} %", no_wrap=True))
    cells.append(Text(running.note, no_wrap=True))
    left = running.seconds_left
    cells.append(Text(duration(running.seconds), style="dim", no_wrap=True))
    if left is not None:
        cells.append(Text(f"{duration(left)} left", style="dim", no_wrap=True))
    grid.add_row(*cells)
    return grid


def duration(seconds: float) -> str:
    """Return a time as people say it: ``0.1 s``, ``42 s``, ``3 min 05 s``, ``1 h 02 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def quantity(value: float, unit: str = "") -> str:
    """Return a number with three digits and a prefix: ``36.1 k``, ``353 M``, ``2.1 GB``."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{_three_digits(value / size)} {prefix}{unit}"
    return f"{_three_digits(value)} {unit}".rstrip()


def _three_digits(value: float) -> str:
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value)


def _one_line(message: str) -> str:
    """A message without line breaks, and with nothing that steers the terminal: files may be quoted in it."""
    return "".join(c if c.isprintable() else _escape(c) for c in " ".join(message.split()))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
