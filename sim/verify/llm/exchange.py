# SPDX-License-Identifier: Apache-2.0
"""Exchanges with a model, kept: a cache, a recording, or a recording that is played again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sim.errors import ToolError
from sim.verify.llm.providers import Completion, Message, Transport

__all__ = ["Exchanges", "Mode"]

Mode = Literal["cache", "record", "replay"]


@dataclass
class Exchanges:
    """Asks a model, or finds what it said.

    Parameters
    ----------
    name : provider and model, part of what an exchange is found by.
    transport : None only in ``replay``.
    folder : one file for each exchange, by the digest of what was asked. No keys, no headers.
    mode : ``cache``: ask what is not there; ``record``: ask and keep; ``replay``: never ask.
    """

    name: str
    transport: Transport | None
    folder: Path
    mode: Mode
    found: int = 0

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], *, tokens: int, seconds: float
    ) -> Completion:
        """Return the answer of the model, or the one it gave before.

        Raises
        ------
        ToolError
            In ``replay``, if this was not recorded; or what `Transport.complete` raises.
        """
        asked = {"name": self.name, "messages": [dict(m) for m in messages], "schema": schema}
        text = json.dumps(asked, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        if self.mode != "record" and path.is_file():
            self.found += 1
            kept = json.loads(path.read_text(encoding="utf-8"))
            return Completion(**kept["answer"])
        if self.transport is None:
            raise ToolError(f"{self.folder} has no recording of this exchange ({path.name})")
        answer = self.transport.complete(messages, schema, tokens=tokens, seconds=seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".part")
        fresh.write_text(
            json.dumps({"asked": asked, "answer": asdict(answer)}, indent=1), encoding="utf-8"
        )
        fresh.replace(path)
        return answer
