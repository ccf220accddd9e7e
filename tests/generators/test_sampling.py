# SPDX-License-Identifier: Apache-2.0
"""Small arrays that stand for a large one."""

import pytest

from generators.sampling import WHOLE, combine, samples
from hw.arrays import make_engine


class TestSamples:
    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("tree:mac", (2, 64, 64)),
            ("tree:mac", (4, 16, 32)),
            ("cube:mac", (2, 32, 32)),
            ("tree:dsp_packed", (4, 64, 64)),
            ("tree:dsp_packed", (16, 32, 32)),
        ],
    )
    def test_add_up_to_the_array(self, name: str, shape: tuple[int, int, int]) -> None:
        tokens, reduce, outputs = shape
        array, pe = name.split(":")
        engine = make_engine(array, pe, tokens=tokens, reduce=reduce, outputs=outputs)
        found = samples(engine)
        assert found and sum(sample.weight * sample.engine.macs for sample in found) == engine.macs
        assert all(sample.engine.macs < engine.macs for sample in found)
        pairs = {part.module_name for part in engine.parts()}
        assert all({p.module_name for p in sample.engine.parts()} == pairs for sample in found)
        total = sum(sample.weight * sample.engine.resources().ff for sample in found)
        assert total == pytest.approx(engine.resources().ff, rel=0.001)

    def test_small_arrays_are_mapped_whole(self) -> None:
        engine = make_engine("tree", tokens=1, reduce=8, outputs=8)
        assert engine.macs <= WHOLE and not samples(engine)

    def test_arrays_that_grow_unevenly_are_mapped_whole(self) -> None:
        """Registers in triangles, of the skew."""
        assert not samples(make_engine("systolic_os", tokens=64, reduce=1, outputs=64))

    def test_arrays_of_modules_are_small_already(self) -> None:
        assert not samples(make_engine("tree", "opt1", tokens=4, reduce=16, outputs=16))


def test_combine_keeps_what_is_there() -> None:
    assert combine([(2, {"LUT6": 5, "CARRY8": 1}), (-1, {"LUT6": 4, "FDRE": 3})]) == {
        "LUT6": 6, "CARRY8": 2
    }  # fmt: skip
