# SPDX-License-Identifier: Apache-2.0
"""What may be exported, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from designs import target
from designs.errors import DesignError
from designs.progress import SilentProgress
from generators import manifest
from generators.engine import EngineRequest, write_engine
from generators.export import FLOWS, Options, export
from hwgen import cli

SILENT = SilentProgress()


@pytest.fixture
def copy(u280: Path, tmp_path: Path) -> Path:
    shutil.copytree(u280, tmp_path / "copy", ignore=shutil.ignore_patterns("export"))
    return tmp_path / "copy"


def refused(out: Path, flow: str = "vivado", options: Options | None = None) -> str:
    with pytest.raises(DesignError) as caught:
        export(out, flow, None, options or Options(), SILENT)
    assert not (out / "export" / flow).exists()
    return str(caught.value)


class TestFolder:
    def test_files_are_those_of_the_build(self, copy: Path) -> None:
        done = export(copy, "vivado", None, Options(), SILENT)
        assert done.folder == copy / "export" / "vivado"
        names = sorted(path.name for path in (copy / "rtl").iterdir())
        assert sorted(path.name for path in (done.folder / "rtl").iterdir()) == names
        for name in names:
            before, after = copy / "rtl" / name, done.folder / "rtl" / name
            assert before.read_bytes() == after.read_bytes()
        assert manifest.alteration(copy) is None, "an export does not edit the build"
        assert manifest.alteration(done.folder) is None

    def test_the_same_again(self, copy: Path) -> None:
        texts = []
        for name in ("one", "two"):
            folder = export(copy, "vivado", copy.parent / name, Options(), SILENT).folder
            texts.append({p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()})
        assert texts[0] == texts[1]

    def test_is_no_folder(self, tmp_path: Path) -> None:
        assert "is not a folder" in refused(tmp_path / "none")

    def test_is_no_build(self, tmp_path: Path) -> None:
        (tmp_path / "rtl").mkdir()
        assert "it has no manifest.json of a finished build" in refused(tmp_path)

    def test_was_not_finished(self, copy: Path) -> None:
        (copy / "manifest.json").unlink()
        assert "it has no manifest.json" in refused(copy)

    @pytest.mark.parametrize("name", ["rtl/hwgen_top.sv", "design.json", "schedule.yaml"])
    def test_was_edited(self, copy: Path, name: str) -> None:
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1  # the size stays
        (copy / name).write_bytes(data)
        assert f"{name} is not what was built; build it again" in refused(copy)

    def test_reports_are_written_anew(self, copy: Path) -> None:
        for text in ("as built", "after a synthesis"):
            (copy / "report.html").write_text(text)
            (copy / "report.json").write_text("{}" + " " * len(text))
            if text == "as built":
                manifest.write(copy, {})
        assert manifest.alteration(copy) is None
        (copy / "report.json").unlink()
        assert "report.json is missing" in refused(copy)

    def test_lacks_a_file(self, copy: Path) -> None:
        (copy / "rtl" / "accelerator.v").unlink()
        assert "rtl/accelerator.v is missing" in refused(copy)

    def test_has_a_file_more(self, copy: Path) -> None:
        (copy / "rtl" / "more.v").write_text("module more; endmodule\n")
        assert "rtl/more.v was added" in refused(copy)

    def test_may_not_be_its_own_export(self, copy: Path) -> None:
        for to in (copy, copy.parent, copy / "rtl" / "vivado"):
            with pytest.raises(DesignError, match="is the build itself, or holds it"):
                export(copy, "vivado", to, Options(), SILENT)

    def test_what_is_not_ours_stays(self, copy: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.tex").write_text("text")
        with pytest.raises(DesignError, match="was not written by hwgen"):
            export(copy, "vivado", tmp_path / "mine", Options(), SILENT)

    def test_registers_of_another_version(self, copy: Path) -> None:
        facts = json.loads((copy / "design.json").read_text())
        facts["registers"]["token"] += 4
        (copy / "design.json").write_text(json.dumps(facts))
        manifest.write(copy, {})
        assert "registers of another version" in refused(copy)

    def test_memory_that_computes(self, copy: Path) -> None:
        facts = json.loads((copy / "design.json").read_text())
        facts["target"] = target.load("tiny-pim").to_dict()
        (copy / "design.json").write_text(json.dumps(facts))
        manifest.write(copy, {})
        assert "has memory that computes (tiny-pim), which no part has" in refused(copy)

    @pytest.mark.parametrize(
        ("facts", "said"),
        [
            ({"backend": "hls"}, "is HLS C++, which has its own scripts"),
            ({"kind": "kernel"}, "is a kernel: export writes projects of models and engines only"),
            ({"top": "hwgen_top"}, "has no model: build it again"),
        ],
    )
    def test_other_folders_of_ours(self, tmp_path: Path, facts: dict[str, str], said: str) -> None:
        (tmp_path / "design.json").write_text(json.dumps(facts))
        manifest.write(tmp_path, {})
        assert said in refused(tmp_path)


class TestFlow:
    def test_an_engine_alone_is_no_accelerator(self, tmp_path: Path) -> None:
        write_engine(EngineRequest("tree:mac:1x2x2"), tmp_path / "e")
        assert "is an engine alone" in refused(tmp_path / "e")

    @pytest.mark.parametrize(
        ("flow", "said"),
        [
            (
                "vitis",
                "the flow vitis cannot take the target sim-small, only u280, u55c, u50, u250",
            ),
            (
                "vivado",
                "the flow vivado cannot take the target sim-small, which has no part; build for",
            ),
            (
                "openlane",
                "bits of memory, and a layout takes 65,536 as flip-flops; give an engine alone",
            ),
        ],
    )
    def test_targets_that_cannot_be_taken(self, generic: Path, flow: str, said: str) -> None:
        assert said in refused(generic, flow)

    @pytest.mark.parametrize("flow", ["quartus", "openlane"])
    def test_parts_of_others(self, copy: Path, flow: str) -> None:
        message = refused(copy, flow)
        assert f"the flow {flow} cannot take the target u280, which is xcu280" in message
        assert "--target sim-small" in message

    def test_devices_and_processes(self, generic: Path, tmp_path: Path) -> None:
        with pytest.raises(DesignError, match="--part XYZ is of no family that is known"):
            export(generic, "quartus", tmp_path / "q", Options(part="XYZ"), SILENT)
        export(generic, "quartus", tmp_path / "q", Options(part="1SM21BHU2F53E1VG"), SILENT)
        project = (tmp_path / "q" / "project.tcl").read_text()
        assert "FAMILY Stratix\\ 10" in project and "DEVICE 1SM21BHU2F53E1VG" in project
        write_engine(EngineRequest("tree:mac:1x2x2"), tmp_path / "e")
        with pytest.raises(DesignError, match="--pdk gf180 is not known"):
            export(tmp_path / "e", "openlane", tmp_path / "o", Options(pdk="gf180"), SILENT)
        export(tmp_path / "e", "openlane", tmp_path / "o", Options(None, "sky130", 40), SILENT)
        config = json.loads((tmp_path / "o" / "config.json").read_text())
        assert config["pdk::sky130*"] == {"CLOCK_PERIOD": 25.0}
        assert "pdk::ihp-sg13g2*" not in config

    def test_options_of_other_flows(self, copy: Path) -> None:
        assert refused(copy, options=Options(pdk="sky130")) == (
            "--pdk is not an option of the flow vivado"
        )

    def test_the_command(self, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        cli.console = cli.Console()
        assert cli.run(["export", str(copy), "--flow", "vivadoo"]) == 2
        assert capsys.readouterr().err == (
            'error: flow "vivadoo" is not known; did you mean vivado?\n'
        )
        assert cli.run(["list", "flows"]) == 0
        listed = capsys.readouterr().out
        assert all(name in listed and flow.next in listed for name, flow in FLOWS.items())
        assert cli.run(["export", str(copy), "-f", "vivado", "-q"]) == 0
        assert f"to {copy / 'export' / 'vivado'}" in capsys.readouterr().out.replace("\n", "")
