# SPDX-License-Identifier: Apache-2.0
"""Targets: the cards that ship, and what a card must hold."""

import pytest
import yaml
from pydantic import ValidationError

from designs import catalogue, target
from designs.errors import DesignError
from designs.target import TargetCard

ALL = [
    "ecp5-85k", "ice40up5k", "kv260", "sim-small", "tiny-pim", "u250", "u280", "u280-pim", "u50", "u55c", "vck190",
    "vhk158", "vpk180", "zcu104",
]  # fmt: skip


def card(**changes: object) -> TargetCard:
    text = (catalogue.ROOT / "targets" / "sim-small.yaml").read_text(encoding="utf-8")
    return TargetCard.model_validate(yaml.safe_load(text) | changes)


class TestTargets:
    def test_names(self) -> None:
        assert target.names() == ALL

    @pytest.mark.parametrize("name", ALL)
    def test_loads_and_holds_together(self, name: str) -> None:
        found = target.load(name)
        assert found.name == name
        assert 0 < found.dsp_usable <= found.dsp
        assert 0 < found.granted_bytes_per_cycle <= found.memory_bytes_per_beat
        assert found.granted_gbps <= found.memory.bandwidth_gbps * (1 + 1e-12)
        assert found.memory.capacity_bytes >= 2**23
        assert TargetCard.model_validate_json(found.model_dump_json()) == found

    def test_u280_is_bound_by_its_memory(self) -> None:
        u280 = target.load("u280")
        assert u280.memory_bytes_per_beat == 2048
        assert u280.granted_gbps == pytest.approx(460.0)
        assert u280.dsp == 9024

    def test_u50_is_bound_by_its_ports(self) -> None:
        u50 = target.load("u50")
        assert u50.granted_bytes_per_cycle == 1024
        assert u50.granted_gbps == pytest.approx(230.4)

    def test_unchecked_figures_are_named(self) -> None:
        assert "memory.bandwidth_gbps" in target.load("u50").unverified
        assert not target.load("u50").verified
        assert target.load("sim-small").verified

    @pytest.mark.parametrize("name", ALL)
    def test_slices_are_instances_where_the_part_has_them(self, name: str) -> None:
        """DSP48E2 and, retargeted, DSP58; a simulation packs with plain multipliers, narrower ones cannot."""
        found = target.load(name)
        sliced = found.dsp_kind in ("dsp48e2", "dsp58")
        assert (found.dsp_variant == "dsp48e2") == sliced
        assert found.packs == (sliced or name in ("sim-small", "tiny-pim"))

    def test_unknown_name_gets_the_nearest(self) -> None:
        with pytest.raises(DesignError, match=r'target "u28O" is not known; did you mean u280\?'):
            target.load("u28O")


class TestTargetCard:
    def test_is_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            card().dsp = 1  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"dsp_usable": 401}, "dsp_usable must be at most dsp, 400, not 401"),
            ({"lut_usable": 200_001}, "lut_usable must be at most lut"),
            ({"dsp": 0, "dsp_usable": 0}, 'dsp_kind "none" and dsp 0 go together'),
            ({"bram": {"count": 1, "usable": 2, "bits": 1}}, "usable must be at most count, 1"),
            ({"unverified": ["memory.speed"]}, 'names the field "memory.speed"'),
            ({"clock_mhz": 0}, "greater than 0"),
            ({"colour": "red"}, "Extra inputs are not permitted"),
        ],
    )
    def test_init_wrong(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            card(**changes)

    @pytest.mark.parametrize("bits", [16, 96, 2048])
    def test_init_wrong_port_bits(self, bits: int) -> None:
        memory = card().memory.model_dump() | {"port_bits": bits}
        with pytest.raises(ValidationError, match="port_bits must be a power of two, 32 to 1024"):
            card(memory=memory)
