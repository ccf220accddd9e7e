# SPDX-License-Identifier: Apache-2.0
"""Sizes in L and P."""

import pytest

from schedules.errors import ScheduleError
from schedules.sizes import check_size, size_value


@pytest.mark.parametrize(
    ("size", "value"), [(7, 7), ("L", 3), ("P", 10), ("P+L", 13), ("2*L+4", 10), ("L + 3*P", 33)]
)
def test_value(size: int | str, value: int) -> None:
    assert size_value(size, 3, 10) == value


@pytest.mark.parametrize("size", ["", "L-1", "L*P", "M", "+L", 2.5, True])
def test_what_is_no_size(size: object) -> None:
    with pytest.raises(ScheduleError, match="whole number or a sum of L and P"):
        size_value(size, 1)  # type: ignore[arg-type]


def test_a_size_is_at_least_one() -> None:
    with pytest.raises(ScheduleError, match="at least 1 for a pass of one token, not 'P'"):
        check_size("P")
