# SPDX-License-Identifier: Apache-2.0
"""Where process design kits are looked for."""

from pathlib import Path

import pytest

from designs.errors import DesignError
from generators import pdk


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PDK_ROOT", raising=False)
    return tmp_path


def put(root: Path, liberty: str) -> Path:
    path = root / liberty
    path.parent.mkdir(parents=True)
    path.write_text("")
    return path


@pytest.mark.parametrize("name", pdk.PDKS)
@pytest.mark.parametrize("root", [".ciel", ".volare"])
def test_where_ciel_enables_it(home: Path, name: str, root: str) -> None:
    path = put(home / root, pdk.PDKS[name][-1])
    assert pdk.find(name) == path


def test_the_root_that_is_set_counts_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home / ".ciel", pdk.PDKS["ihp-sg13g2"][0])
    monkeypatch.setenv("PDK_ROOT", str(home / "kits"))
    with pytest.raises(DesignError, match=f"not below {home}/kits:"):
        pdk.find("ihp-sg13g2")
    path = put(home / "kits", pdk.PDKS["ihp-sg13g2"][0])
    assert pdk.find("ihp-sg13g2") == path


def test_not_installed(home: Path) -> None:
    with pytest.raises(DesignError) as error:
        pdk.find("sky130")
    assert f"{home}/.ciel or {home}/.volare" in str(error.value)
    assert "pip install ciel" in str(error.value)
    assert "ciel enable --pdk-family sky130 VERSION" in str(error.value)


def test_unknown(home: Path) -> None:
    with pytest.raises(
        DesignError, match=r"--pdk gf180 is not known \(known: ihp-sg13g2, sky130\)"
    ):
        pdk.find("gf180")
