# SPDX-License-Identifier: Apache-2.0
"""Packing: exact up to the limit for any operands, wrong one product later, refused where it is unsafe."""

from itertools import product

import numpy as np
import pytest

from hw.dsp.packing import Operand, Packing, acts, best, both, chain_lengths, signed, weights

LIBRARY = {
    "w8a8 x2": (weights(2, 8, 8), 8),
    "w8a8 x2, no -128": (weights(2, 8, 8, symmetric=True), 16),
    "w8a8 x2, two tokens": (acts(2, 8, 8), 8),
    "w4a8 x2": (weights(2, 4, 8), 2056),
    "w4a8 x2, no -8": (weights(2, 4, 8, symmetric=True), 4681),
    "w3a8 x3": (weights(3, 3, 8, symmetric=True), 5),
    "ternary a8 x3": (weights(3, 2, 8, symmetric=True), 15),
    "w4a4 x4": (both(4, 4), 17),
    "w4a4 x4, no -8": (both(4, 4, symmetric=True), 18),
    "w4a4 x3": (weights(3, 4, 4), 17),
}
"""Layouts, and how many products a field of each holds."""

each = pytest.mark.parametrize(("packing", "limit"), LIBRARY.values(), ids=LIBRARY)


def exact(packing: Packing, wide: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    sums = np.einsum("...ni,...nj->...ij", wide.astype(np.int64), narrow.astype(np.int64))
    return sums.reshape(*sums.shape[:-2], packing.products)


def corners(packing: Packing, products: int) -> tuple[np.ndarray, np.ndarray]:
    """Chains of which every number is at an end of its range, in all combinations."""
    numbers = packing.wide.count + packing.narrow.count
    ends = np.array(list(product((0, 1), repeat=numbers)))
    wide = np.where(ends[:, : packing.wide.count], packing.wide.high, packing.wide.low)
    narrow = np.where(ends[:, packing.wide.count :], packing.narrow.high, packing.narrow.low)
    return np.repeat(wide[:, None], products, 1), np.repeat(narrow[:, None], products, 1)


@each
def test_limit(packing: Packing, limit: int) -> None:
    assert packing.limit == limit and 1 <= packing.taps <= limit
    assert packing.carry(packing.taps) in (0, 1)


@each
def test_is_exact_up_to_the_limit(packing: Packing, limit: int) -> None:
    rng = np.random.default_rng(1)
    for products in {1, 2, packing.taps, limit - 1, limit} - {0}:
        wide, narrow = corners(packing, products)
        np.testing.assert_array_equal(packing.sums(wide, narrow), exact(packing, wide, narrow))
        wide = rng.integers(
            packing.wide.low, packing.wide.high + 1, (50, products, packing.wide.count)
        )
        narrow = rng.integers(
            packing.narrow.low, packing.narrow.high + 1, (50, products, packing.narrow.count)
        )
        np.testing.assert_array_equal(packing.sums(wide, narrow), exact(packing, wide, narrow))


@each
def test_no_constant_saves_one_product_more(packing: Packing, limit: int) -> None:
    """With the constant of the limit, and with any other that is exact for fewer products."""
    wide, narrow = corners(packing, limit + 1)
    right = exact(packing, wide, narrow)
    for products in {limit, max(1, limit // 2)}:
        found = packing.fields(
            packing.chain(wide, narrow, packing.constant(products)), packing.carry(products)
        )
        assert (found[..., :-1] != right[..., :-1]).any()


@each
def test_refuses_more_than_the_limit(packing: Packing, limit: int) -> None:
    with pytest.raises(
        ValueError, match=f"{limit + 1} products .* overflow a field .* at most {limit}$"
    ):
        packing.sums(*corners(packing, limit + 1))
    with pytest.raises(ValueError, match="at least 1 product, not 0"):
        packing.check(0)


def test_half_the_range_as_bias_would_hold_one_product_less() -> None:
    """What the literature gives, and why FlightLLM's eight taps need weights without -128."""
    packing = weights(2, 8, 8)
    wide, narrow = corners(packing, 8)
    half = 1 << 17
    assert (
        packing.fields(packing.chain(wide, narrow, half), 0) != exact(packing, wide, narrow)
    ).any()
    assert packing.bias(8) == half - 1 and packing.carry(8) == 1


@pytest.mark.parametrize(
    "packing", [weights(2, 8, 8), weights(3, 3, 8, symmetric=True), both(4, 4)]
)
def test_adjusted_numbers_lie_side_by_side(packing: Packing) -> None:
    """Every combination: the bits of what is stored are the packed operand, without an adder."""
    operand = packing.wide
    one = np.arange(operand.low, operand.high + 1)
    numbers = np.stack(np.meshgrid(*[one] * operand.count), -1).reshape(-1, operand.count)
    stored = packing.adjusted(numbers)
    top = stored[:, -1] << (operand.count - 1) * packing.step
    low = sum(
        (stored[:, n] & (1 << packing.step) - 1) << n * packing.step
        for n in range(operand.count - 1)
    )
    np.testing.assert_array_equal(top + low, packing.pack_wide(numbers))


def test_symmetric_weights_stay_in_their_bits() -> None:
    """-127 less one is -128: a weight stream needs no ninth bit."""
    packing = weights(2, 8, 8, symmetric=True)
    numbers = np.array([[-1, -127], [0, 127], [-127, -127]])
    assert packing.adjusted(numbers).tolist() == [[-1, -128], [0, 127], [-127, -128]]


class TestRefuses:
    def test_operands_that_do_not_fit(self) -> None:
        with pytest.raises(
            ValueError, match=r"2 x -128..127 at steps of 20 bits exceed the 27 bits of the wide"
        ):
            Packing(signed(8, 2), signed(8), 20)
        with pytest.raises(ValueError, match="exceed the 18 bits of the narrow operand"):
            Packing(signed(4), signed(8, 2), 16)

    def test_a_field_without_room(self) -> None:
        with pytest.raises(ValueError, match="a field of 14 bits holds no product"):
            Packing(signed(8, 2), signed(8), 14)

    def test_numbers_outside_their_range(self) -> None:
        with pytest.raises(ValueError, match=r"operands must be -127\.\.127"):
            weights(2, 8, 8, symmetric=True).pack_wide(np.array([-128, 0]))

    def test_numbers_that_never_share(self) -> None:
        with pytest.raises(ValueError, match="two products of 16 by 8 bits do not share a DSP48E2"):
            best(16, 8, 1)
        with pytest.raises(ValueError, match="do not share a DSP48E2 exactly; pack fewer"):
            weights(4, 8, 8)

    def test_senseless_operands(self) -> None:
        with pytest.raises(ValueError, match="count must be at least 1, not 0"):
            Operand(0, -1, 1)
        with pytest.raises(ValueError, match=r"must hold 0 and more, not 1\.\.2"):
            Operand(1, 1, 2)


def test_the_best_layout() -> None:
    found = {
        (w, x, t): best(w, x, t).products
        for w, x, t in [(8, 8, 1), (4, 4, 1), (4, 4, 2), (4, 8, 4), (2, 8, 1)]
    }
    assert found == {(8, 8, 1): 2, (4, 4, 1): 3, (4, 4, 2): 4, (4, 8, 4): 2, (2, 8, 1): 3}


@pytest.mark.parametrize("elements", [1, 7, 8, 9, 17, 64])
def test_chains_are_few_and_equal(elements: int) -> None:
    lengths = chain_lengths(elements, 8)
    assert sum(lengths) == elements and len(lengths) == -(-elements // 8)
    assert max(lengths) <= 8 and max(lengths) - min(lengths) <= 1
