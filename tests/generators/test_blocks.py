# SPDX-License-Identifier: Apache-2.0
"""Links between parts: what carries data counts bit by bit, what selects does not."""

import pytest

from generators.blocks import read_blocks
from generators.diagram import Box, draw, merged

OUTPUTS = {"maker": {"o"}, "taker": {"done"}}


def instance(module: str, **pins: list[int | str]) -> dict:
    return {"type": module, "connections": pins}


def cell(kind: str, **pins: list[int | str]) -> dict:
    ways = {pin: "output" if pin in "YQ" else "input" for pin in pins}
    return {"type": kind, "connections": pins, "port_directions": ways}


def netlist(**cells: dict) -> dict:
    ports = {
        "clk": {"direction": "input", "bits": [1]},
        "bus__data": {"direction": "input", "bits": [2, 3]},
        "bus__ready": {"direction": "output", "bits": [9]},
    }
    return {"ports": ports, "cells": cells}


def links(found: dict) -> dict[tuple[str, str], int]:
    return {(link.source, link.sink): link.bits for link in read_blocks(found, OUTPUTS).links}


def test_data_straight_and_through_a_multiplexer() -> None:
    """Two bits of one maker, one of them by way of a multiplexer that the other maker selects."""
    found = netlist(
        one=instance("maker", clk=[1], o=[10, 11]),
        two=instance("maker", clk=[1], o=[12]),
        three=instance("taker", i=[10, 20, "0"], done=[9]),
        pick=cell("$mux", A=[11], B=[3], S=[12], Y=[20]),
    )
    assert links(found) == {("one", "three"): 2, ("bus", "three"): 1, ("three", "bus"): 1}


def test_arithmetic_carries_every_input_to_every_output() -> None:
    found = netlist(
        one=instance("maker", o=[10, 11]),
        two=instance("maker", o=[12]),
        three=instance("taker", i=[20, 21], done=[9]),
        sum=cell("$add", A=[10, 11], B=[12], Y=[20, 21]),
    )
    assert links(found)["one", "three"] == links(found)["two", "three"] == 2


def test_a_register_that_holds_its_value_is_a_loop() -> None:
    found = netlist(
        one=instance("maker", o=[10]),
        three=instance("taker", i=[21], done=[9]),
        hold=cell("$mux", A=[21], B=[10], S=[2], Y=[20]),
        register=cell("$dff", CLK=[1], D=[20], Q=[21]),
    )
    assert links(found)["one", "three"] == 1


def test_what_drives_nothing_is_left_out() -> None:
    found = netlist(
        one=instance("maker", o=[10]),
        probe=instance("taker", i=[10], done=[33]),
        three=instance("taker", i=[10], done=[9]),
    )
    blocks = read_blocks(found, OUTPUTS)
    assert [(part.name, part.module) for part in blocks.parts] == [
        ("bus", None), ("one", "maker"), ("three", "taker"),
    ]  # fmt: skip
    assert ("one", "probe") not in links(found)


@pytest.mark.parametrize("bits", [1, 2])
def test_drawing_has_a_box_for_each_part_and_a_curve_for_each_link(bits: int) -> None:
    ones: list[int | str] = list(range(10, 10 + bits))
    found = netlist(
        one=instance("maker", o=ones),
        two=instance("maker", o=[40]),
        three=instance("taker", i=[*ones, 40], done=[9]),
    )
    blocks = read_blocks(found, OUTPUTS)
    pairs = merged(blocks, {"one": "makers", "two": "makers"})
    assert pairs["makers", "three"] == bits + 1
    names = {name for pair in pairs for name in pair}
    svg = draw(pairs, {n: Box(n, "note") for n in names}, data="makers", control="bus")
    assert svg.count("<rect") == len(names) == 3
    assert svg.count("<path") == len(pairs)
    assert f"makers to three: {bits + 1} bits" in svg
