"""The shape of a core: all ports of the memory first, then multipliers; what does not fit is said."""

import pytest

from designs import target
from designs.cards import load_model_card
from designs.errors import DesignError
from designs.weight_format import WeightFormat
from generators.compress import Compression
from generators.plan import default_engine, plan

U280 = target.load("u280")


@pytest.mark.parametrize(
    "form", [WeightFormat(), WeightFormat(4, 64), WeightFormat(4, 64, 2, 4, 2)], ids=str
)
def test_llama_reads_through_all_ports(form: WeightFormat) -> None:
    """Fewer lanes would fit more token rows, but fill half of the ports, and decoding is bound by memory."""
    found = plan(load_model_card("llama2-7b"), U280, default_engine(U280), Compression(form))
    assert (found.config.tokens, found.config.lanes, found.config.ports) == (2, 64, 32)
    assert found.config.chunk == 128


def test_multipliers_come_second() -> None:
    found = plan(load_model_card("gpt2-medium"), U280, default_engine(U280))
    assert (found.config.tokens, found.config.lanes, found.config.ports) == (4, 64, 32)


def test_a_model_larger_than_memory() -> None:
    memory = U280.memory.model_copy(update={"bytes_per_port": 1 << 26})
    small = U280.model_copy(update={"name": "small", "memory": memory})
    with pytest.raises(
        DesignError, match=r"does not fit small: it needs .* bytes behind each of 32 .*; .* fits"
    ):
        plan(load_model_card("llama2-7b"), small, default_engine(small))
