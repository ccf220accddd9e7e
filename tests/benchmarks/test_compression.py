# SPDX-License-Identifier: Apache-2.0
"""The table of ways to store weights, on few tokens."""

import pytest

from benchmarks import compression
from benchmarks.compression import Row, main


def test_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        compression, "FORMATS", (("int4", 32, "2:4", 1), ("int4", 32, "dense", None))
    )
    assert main(["--tokens", "700", "--budget", "5"]) == 0
    out = capsys.readouterr().out
    rows = {line[:34].strip(): line[34:].split() for line in out.splitlines()[2:-1]}
    assert list(rows)[:4] == ["float", "int8", "int4 g32 2:4", "int4 g32"]
    assert [rows[name][0] for name in list(rows)[:4]] == ["32.00", "8.00", "3.12", "4.12"]
    float_, int8, sparse, dense = (float(rows[name][1]) for name in list(rows)[:4])
    assert float_ < int8 < dense < sparse
    mixed = [name for name in rows if "better" in name]
    assert len(mixed) == 2
    assert all(float(rows[name][0]) <= 5 for name in mixed)
    assert float(rows[mixed[0]][1]) < dense
    assert float(rows[mixed[1]][1]) < sparse


def test_says_when_a_method_is_worse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Row("float", 32, {"": 3.0}), Row("int4", 4, {"gptq": 4.0, "magnitude": 3.5})]
    monkeypatch.setattr(compression, "measure", lambda *_: rows)
    assert main([]) == 1
    assert "1 formats in which magnitude is better" in capsys.readouterr().out
