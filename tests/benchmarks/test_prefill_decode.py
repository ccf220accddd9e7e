# SPDX-License-Identifier: Apache-2.0
"""The comparison with the ideal and with systolic arrays, by predictions alone."""

import re

import pytest

from benchmarks import prefill_decode

TINY = ["tiny-gpt2", "--target", "sim-small", "--no-rtl", "--quiet"]


def figures(text: str, name: str) -> list[float]:
    """The percentages of the first row that begins with a name."""
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return [float(part) for part in re.findall(r"([\d.]+)%", line)]


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    code = prefill_decode.main([*TINY, "--tokens", "64", "--contexts", "200"])
    text = capsys.readouterr().out
    assert code == int("MISSED" in text)
    assert re.search(
        r"256 multipliers on 256 DSP, \d+ bytes per cycle, 200 MHz assumed, weights int8\n", text
    )
    assert text.index("prompt of 64, 4 layers and head") < text.index("one token at context 200")
    assert figures(text, "ideal: all multipliers busy")[:2] == [100.0, 100.0]
    ours, peer = figures(text, "hwgen, predicted"), figures(text, "SCALE-Sim")
    assert 0 < peer[0] < ours[0] < 100
    assert "SCALE-Sim OS 16x16 (256 multipliers)" in text
    assert len(re.findall(r"\(predicted\): [\d.]+% \(at least 85%\)", text)) == 2


def test_an_engine_beyond_the_target_is_for_cycles_only(capsys: pytest.CaptureFixture[str]) -> None:
    prefill_decode.main([*TINY, "--engine", "tree:mac:16x8x8", "--contexts", "200"])
    assert "beyond the DSP slices of sim-small: for cycles only" in capsys.readouterr().out


def test_compressed_weights_are_read_faster(capsys: pytest.CaptureFixture[str]) -> None:
    def cycles(*arguments: str) -> int:
        prefill_decode.main([*TINY, *arguments, "--contexts", "200"])
        rows = capsys.readouterr().out.splitlines()
        ours = [row for row in rows if row.strip().startswith("hwgen, predicted")]
        return int(ours[1].split()[2].replace(",", ""))

    assert cycles("--weights", "int4", "--group", "32") < 0.8 * cycles()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contexts", "300"], "tiny-gpt2 has contexts of 2 to 256, not 300"),
        (["--tokens", "200", "--contexts"], "a pass holds 128 tokens, not 200"),
        (["--weights", "int5"], 'weights are int8 or int4, not "int5"'),
        (["--engine", "tree:mac:4x8x16"], "as many reduction lanes as outputs"),
    ],
)
def test_asked_wrongly(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert prefill_decode.main([*TINY, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
