# SPDX-License-Identifier: Apache-2.0
"""The processing element of docs/engines.md, taken from the text."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hw.arrays import PE_ENCODINGS, DotPe
from hw.arrays.own_pe import OWN_PES

DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"


def script() -> str:
    """The Python of the chapter."""
    chapter = DOCUMENT.read_text(encoding="utf-8").split("## Your own processing element\n")[1]
    found = re.search(r"```python\n(.*?)```", chapter, re.DOTALL)
    assert found is not None
    return found[1]


def commands() -> list[str]:
    """The command lines of the chapter."""
    chapter = DOCUMENT.read_text(encoding="utf-8").split("## Your own processing element\n")[1]
    found = re.search(r"```\n(python.*?)```", chapter, re.DOTALL)
    assert found is not None
    return found[1].splitlines()


@contextmanager
def defined() -> Iterator[type[DotPe]]:
    """The class of the script, without its last line, which runs the command; known inside the block only."""
    text = script().rstrip()
    assert text.endswith("\nmain()")
    names: dict[str, object] = {"__name__": "engine_guide"}
    exec(compile(text.removesuffix("main()"), str(DOCUMENT), "exec"), names)
    (element,) = [
        v for v in names.values() if isinstance(v, type) and issubclass(v, DotPe) and v is not DotPe
    ]
    try:
        yield element
    finally:
        del OWN_PES[element.name], PE_ENCODINGS[element.name]
