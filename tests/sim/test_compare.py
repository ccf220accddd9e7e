# SPDX-License-Identifier: Apache-2.0
"""Probe logs as the hardware would write them, with and without faults."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from designs.cards import ModelCard
from generators.quantise import random_quantised
from sim.compare import PLACES, Comparison, Expected, compare, read_log, record_type
from sim.golden import transformer

LANES = 8
PHASES = tuple(place.phase for place in PLACES)
CARD = ModelCard(name="small", layers=2, width=16, heads=2, ffn=32, vocabulary=32, context=16)


@pytest.fixture(scope="module")
def expected() -> Expected:
    """Prompt passes of 4 and 1 tokens, and one more for the second of two generated tokens."""
    seen = Expected()
    transformer.generate(random_quantised(CARD, 3), [3, 1, 4, 1, 5], 2, chunk=4, observe=seen)
    assert len(seen.passes) == 3
    return seen


@dataclass
class Log:
    """Records in the order of computation, one a cycle; ``at`` finds them again."""

    records: list[np.ndarray] = field(default_factory=list)
    at: dict[tuple[int, int, str, int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, expected: Expected) -> "Log":
        log = cls()
        places = {place.tensor: place for place in PLACES}
        for index, one in enumerate(expected.passes):
            for (layer, name), value in one.tensors.items():
                place = places[name]
                size = {0: 2, 1: 1, 2: 1, 3: 4}[place.unit]
                lanes = 1 if place.unit == 3 else LANES
                rows = value.reshape(1, 1) if place.unit == 3 else value
                for row, values in enumerate(rows):
                    for chunk, word in enumerate(values.reshape(-1, lanes)):
                        record = np.zeros((), record_type(8 * size * lanes))
                        record["cycle"], record["unit"] = 100 + len(log.records), place.unit
                        record["phase"] = PHASES.index(place.phase)
                        record["layer"] = layer if place.in_layer else 7  # nobody looks
                        record["row"], record["chunk"] = row, chunk
                        record["data"] = word.astype(f"<i{size}").view(np.uint8)
                        log.at[index, layer, name, row, chunk] = len(log.records)
                        log.records.append(record)
        return log

    def compare(self, expected: Expected, folder: Path) -> Comparison:
        kinds = {record.dtype.itemsize: record.dtype for record in self.records}
        for kind in kinds.values():
            bits = 8 * kind["data"].shape[0]
            raw = b"".join(record.tobytes() for record in self.records if record.dtype == kind)
            (folder / f"{bits}.bin").write_bytes(raw)
        return compare(folder, expected.passes, PHASES, LANES)

    def find(self, *key: int | str) -> np.ndarray:
        return self.records[self.at[key]]  # type: ignore[index]


@pytest.fixture
def log(expected: Expected) -> Log:
    return Log.of(expected)


def said(found: Comparison) -> str:
    return str(found.mismatch)


def test_equal(log: Log, expected: Expected, tmp_path: Path) -> None:
    found = log.compare(expected, tmp_path)
    assert found.mismatch is None
    assert found.tensors == sum(len(one.tensors) for one in expected.passes)
    assert found.values == sum(v.size for one in expected.passes for v in one.tensors.values())


def test_the_order_within_a_cycle_and_a_tensor_does_not_matter(
    log: Log, expected: Expected, tmp_path: Path
) -> None:
    first, last = log.at[0, 1, "q", 0, 0], log.at[0, 1, "q", 3, 1]
    log.records[first : last + 1] = log.records[first : last + 1][::-1]
    for cycle, record in enumerate(log.records):
        record["cycle"] = cycle
    assert log.compare(expected, tmp_path).mismatch is None


def test_a_wrong_value_is_named_with_its_place_and_cycle(
    log: Log, expected: Expected, tmp_path: Path
) -> None:
    record = log.find(1, 1, "hidden", 0, 2)
    wanted = int(expected.passes[1].tensors[1, "hidden"][0, 2 * LANES + 5])
    record["data"][5] = np.uint8((wanted + 3) & 0xFF)
    got = int(record["data"].view(np.int8)[5])
    mismatch = log.compare(expected, tmp_path).mismatch
    assert mismatch is not None
    assert (mismatch.tensor, mismatch.index, mismatch.pass_index) == ("h.1.hidden", (0, 21), 1)
    assert (mismatch.expected, mismatch.got, mismatch.cycle) == (wanted, got, record["cycle"])
    assert str(mismatch) == (
        f"pass 1, h.1.hidden[0, 21]: expected {wanted}, got {got} at cycle {record['cycle']}"
    )


def test_the_first_tensor_counts_and_in_it_what_was_written_first(
    log: Log, expected: Expected, tmp_path: Path
) -> None:
    for key in ((0, 1, "ln_1", 0, 0), (0, 0, "residual_1", 2, 0), (0, 0, "residual_1", 1, 1)):
        log.find(*key)["data"][:2] ^= 0x15
    log.find(0, 0, "residual_1", 2, 0)["cycle"] = 1 + log.find(0, 0, "embed", 0, 0)["cycle"]
    first = log.records.pop(log.at[0, 0, "residual_1", 2, 0])
    log.records.insert(1, first)
    text = said(log.compare(expected, tmp_path))
    assert text.startswith("pass 0, h.0.residual_1[2, 0]: expected")
    assert text.endswith("(and 1 more of this tensor)")


def test_a_word_that_was_never_written(log: Log, expected: Expected, tmp_path: Path) -> None:
    del log.records[log.at[0, 1, "v", 2, 1]]
    text = said(log.compare(expected, tmp_path))
    assert "pass 0, h.1.v[2, 8]: expected" in text and "never written (and 7 more" in text


def test_a_word_that_was_written_twice(log: Log, expected: Expected, tmp_path: Path) -> None:
    at = log.at[2, 0, "ln_2", 0, 1]
    log.records.insert(at, log.records[at].copy())
    assert said(log.compare(expected, tmp_path)).startswith(
        "pass 2, h.0.ln_2[0, 8]: written 2 times at cycle"
    )


def test_a_row_that_does_not_exist(log: Log, expected: Expected, tmp_path: Path) -> None:
    log.find(1, 0, "q", 0, 0)["row"] = 1
    assert "a word at row 1, chunk 0 of 1 rows, 2 chunks" in said(log.compare(expected, tmp_path))


def test_a_wrong_token(log: Log, expected: Expected, tmp_path: Path) -> None:
    token = int(expected.passes[2].tensors[2, "token"])
    log.find(2, 2, "token", 0, 0)["data"][0] = token ^ 1
    assert said(log.compare(expected, tmp_path)).startswith(
        f"pass 2, token: expected {token}, got {token ^ 1} at cycle"
    )


def test_the_final_norm_of_any_row(log: Log, expected: Expected, tmp_path: Path) -> None:
    for chunk in range(2):
        log.find(1, 2, "ln_f", 0, chunk)["row"] = 5
    assert log.compare(expected, tmp_path).mismatch is None


def test_a_pass_too_few_and_one_too_many(log: Log, expected: Expected, tmp_path: Path) -> None:
    short = Log(log.records[: log.at[2, 0, "embed", 0, 0]])
    assert "pass 2, embed[0, 0]: expected" in said(short.compare(expected, tmp_path))
    fewer = Expected()
    fewer.passes = expected.passes[:2]
    assert "3 passes were run, expected 2" in said(log.compare(fewer, tmp_path))


def test_words_of_another_width(log: Log, expected: Expected, tmp_path: Path) -> None:
    log.compare(expected, tmp_path)
    wrong = compare(tmp_path, expected.passes, PHASES, 2 * LANES)
    assert "words of 128 bits, not of 16 lanes" in str(wrong.mismatch)


def test_nothing_was_logged(expected: Expected, tmp_path: Path) -> None:
    assert "pass 0, embed[0, 0]" in str(compare(tmp_path, expected.passes, PHASES, LANES).mismatch)
    assert len(read_log(tmp_path, 0)) == 0
