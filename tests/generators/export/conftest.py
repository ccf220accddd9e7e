# SPDX-License-Identifier: Apache-2.0
"""A small accelerator for a card with HBM, finished like a build."""

from pathlib import Path

import pytest

from designs import target
from designs.cards import ModelCard
from designs.progress import SilentProgress
from generators import design, manifest, plan
from hw.arrays import parse_engine

CARD = ModelCard(
    name="small", layers=1, width=32, heads=4, ffn=64, vocabulary=40, context=40
)  # fmt: skip


def write_build(
    folder: Path,
    board: str,
    *,
    ports: int = 2,
    port_bits: int = 128,
    engine: str = "tree:mac:2x8x8",
) -> Path:
    """The RTL of `CARD` for a target of which only so many memory ports are used."""
    card = target.load(board)
    memory = card.memory.model_copy(update={"ports": ports, "port_bits": port_bits})
    planned = plan.plan(
        CARD, card.model_copy(update={"memory": memory}), parse_engine(engine), None
    )
    folder.mkdir()
    design.write_design(
        folder, CARD, card.model_copy(update={"memory": memory}), planned, SilentProgress()
    )
    manifest.write(folder, {"test": board})
    return folder


@pytest.fixture(scope="session")
def u280(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build for the U280."""
    return write_build(tmp_path_factory.mktemp("u280") / "build", "u280")


@pytest.fixture(scope="session")
def generic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build for no vendor's part."""
    return write_build(tmp_path_factory.mktemp("generic") / "build", "sim-small")
