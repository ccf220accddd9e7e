# SPDX-License-Identifier: Apache-2.0
"""How long work tells whoever asked for it how far it has come.

The wings report to a `Progress`; only ``hwgen.console`` draws one. Work that nobody watches gets a
`SilentProgress`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass
class Step:
    """One step under way; ``detail`` may be set while it runs, once the figure is known."""

    name: str
    detail: str = ""


class Progress(Protocol):
    """What a build, a simulation or a synthesis run reports to.

    Example
    -------
    ::

        with progress.step("emit") as step:
            files = emit(design)
            step.detail = f"{len(files)} files"
    """

    def step(self, name: str, detail: str = "") -> AbstractContextManager[Step]:
        """A named step: everything inside the ``with``. Its time is shown when it ends."""
        ...

    def advance(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units of the current step are finished.

        ``note`` is a short figure for beside the bar, such as ``"36 k cycles/s"``. Cheap: it may
        be called often, and is drawn only a few times a second.
        """
        ...


class SilentProgress:
    """A `Progress` that shows nothing."""

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[Step]:
        yield Step(name, detail)

    def advance(self, done: int, total: int, note: str = "") -> None:
        pass
