# SPDX-License-Identifier: Apache-2.0
"""The distributions, and that the table says when a figure is missed."""

import numpy as np
import pytest

from benchmarks import digit_statistics
from benchmarks.digit_statistics import VALUES, expected, normal


def test_normal_is_that_of_rounded_samples() -> None:
    probability = normal(50)
    assert probability.sum() == pytest.approx(1)
    samples = np.clip(np.rint(np.random.default_rng(0).normal(0, 50, 1 << 20)), -128, 127)
    found = np.bincount(samples.astype(int) + 128, minlength=256) / len(samples)
    np.testing.assert_allclose(found, probability, atol=4e-4)


def test_expected_is_by_the_bits() -> None:
    probability = np.zeros(256)
    probability[VALUES == -1] = 1
    assert expected(probability, np.arange(256)) == 255


def test_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert digit_statistics.main(["--numbers", "4096"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["uniform"][:4] == ["4.000", "3.000", "2.777", "2.918"]
    monkeypatch.setitem(digit_statistics.PUBLISHED, 30, 2.0)
    assert digit_statistics.main(["--numbers", "4096"]) == 1
    assert "1 of 5 differ" in capsys.readouterr().out
