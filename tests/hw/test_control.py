# SPDX-License-Identifier: Apache-2.0
"""The register map and the control registers."""

import re
import subprocess
from pathlib import Path

import pytest

from hw.control import ControlRegisters, Register, RegisterMap, register_map
from sim.compiler import find_compiler
from tests.bench import run_bench


def test_on_verilator(tmp_path: Path) -> None:
    registers = register_map(2, ["busy", "starved", "blocked"])  # as in cocotb_control.py
    run_bench({"control": ControlRegisters(registers)}, "cocotb_control", tmp_path)


class TestRegisterMap:
    def test_offsets(self) -> None:
        registers = register_map(32, ["busy", "starved"])
        expected = {
            "ctrl": 0x00, "gier": 0x04, "ip_ier": 0x08, "ip_isr": 0x0C, "prompt": 0x10,
            "generate": 0x18, "position": 0x20, "layers": 0x28, "generated": 0x30, "cycles": 0x38,
            "cycles_high": 0x3C, "token": 0x40, "memory_0": 0x80, "memory_31": 0x1F4,
            "busy": 0x400, "starved": 0x404,
        }  # fmt: skip
        assert {name: registers.offset(name) for name in expected} == expected
        assert [r.name for r in registers.counters] == ["busy", "starved"]
        assert len(list(registers)) == 12 + 32 + 2
        assert registers["memory_3"].bits == 64

    def test_texts_name_every_register(self) -> None:
        registers = register_map(2, ["busy"])
        table = re.findall(r"^\| 0x(\w+) \| (\w+) \|", registers.to_markdown(), re.M)
        header = re.findall(r"^#define HWGEN_(\w+) 0x(\w+)u$", registers.to_c_header(), re.M)
        expected = [(f"{r.offset:03x}", r.name) for r in registers]
        assert table == expected
        assert [(offset, name.lower()) for name, offset in header] == expected

    @pytest.mark.parametrize("language", ["c99", "c++17"])
    def test_the_header_compiles_to_the_map(self, language: str, tmp_path: Path) -> None:
        registers = register_map(3, ["busy", "starved"])
        (tmp_path / "map.h").write_text(registers.to_c_header("MINE"))
        prints = [f'printf("%u\\n", MINE_{r.name.upper()});' for r in registers]
        (tmp_path / "main.c").write_text(
            '#include <stdio.h>\n#include "map.h"\n#include "map.h"\n'
            f"int main(void) {{ {' '.join(prints)} return MINE_PORTS == 3 && MINE_CTRL_IDLE == 4 ? 0 : 1; }}"
        )
        kind = "c" if language == "c99" else "c++"
        compiler = [find_compiler("a header"), "-x", kind, f"-std={language}"]
        strict, files = (
            ["-pedantic", "-Wall", "-Werror"],
            [tmp_path / "main.c", "-o", tmp_path / "main"],
        )
        subprocess.run([*compiler, *strict, *files], check=True)
        said = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True)
        assert [int(line) for line in said.stdout.split()] == [r.offset for r in registers]

    def test_unknown_name(self) -> None:
        with pytest.raises(KeyError, match="pormpt"):
            register_map(1, []).offset("pormpt")

    @pytest.mark.parametrize("ports", [0, 75])
    def test_wrong_ports(self, ports: int) -> None:
        with pytest.raises(ValueError, match=f"Ports must be 1 to 74, not {ports}"):
            register_map(ports, [])

    def test_names_are_unique(self) -> None:
        with pytest.raises(ValueError, match="name must be unique, not 'prompt'"):
            register_map(1, ["prompt"])

    def test_counters_fit(self) -> None:
        names = [f"counter_{k}" for k in range(769)]
        assert register_map(1, names[:768]).offset("counter_767") == 0xFFC
        with pytest.raises(ValueError, match=r"within 0x1000, not .*counter_768"):
            register_map(1, names)

    def test_registers_do_not_overlap(self) -> None:
        first, second = (Register(n, o, 64, "rw", "") for n, o in (("a", 0x10), ("b", 0x14)))
        with pytest.raises(ValueError, match="must lie after 0x18"):
            RegisterMap((first, second))
        with pytest.raises(ValueError, match="32 or 64 bits of whole words"):
            RegisterMap((Register("a", 0x12, 32, "rw", ""),))
