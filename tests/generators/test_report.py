# SPDX-License-Identifier: Apache-2.0
"""The report of a build: its numbers are the cycle model's, and its page stands alone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pydantic import BaseModel

from designs import target
from designs.cards import load_model_card
from designs.errors import DesignError
from designs.progress import SilentProgress
from designs.transformer import transformer_model
from generators import blocks, report, report_facts, report_page
from generators.asic_build import AsicModule, AsicResult, Fit, Target
from generators.comparison import compare
from generators.design import write_design
from generators.lower import lower
from generators.machine import measure
from generators.plan import Plan, plan
from generators.synth import ModuleResources, Resources, SynthesisResult
from hw.arrays import parse_engine
from hw.core.program import step_layout
from hwgen import cli
from schedules.cycles import Pass, play, predict
from schedules.schedule import Schedule
from schedules.sequential import sequential

CARD, BOARD = load_model_card("tiny-gpt2"), target.load("sim-small")
DOCUMENT = Path(__file__).parents[2] / "docs" / "report.md"


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(CARD, BOARD, parse_engine("tree:mac"))


@pytest.fixture(scope="module")
def built(planned: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    write_design(folder, CARD, BOARD, planned, SilentProgress())
    report.write_report(folder, CARD, BOARD, planned, seconds=1.25)
    return folder


@pytest.fixture(scope="module")
def found(built: Path) -> report_facts.Report:
    return report.load(built)


@pytest.fixture(scope="module")
def schedule(built: Path) -> Schedule:
    return Schedule.from_yaml((built / "schedule.yaml").read_text())


def test_one_program_serves_all_lengths(
    found: report_facts.Report, built: Path, planned: Plan, schedule: Schedule
) -> None:
    """Its steps are in the RTL's program memory; a few hundred bytes, whatever the context."""
    design = json.loads((built / "design.json").read_text())
    layout = step_layout(planned.config)
    assert found.program.steps == len(design["phases"]) == len(schedule.phases)
    assert found.program.bits_per_step == layout.size
    assert found.program.bytes == -(-found.program.steps * layout.size // 8) < 1024
    assert found.program.lengths == CARD.context


class TestPoints:
    def test_lengths_end_with_the_context(self, found: report_facts.Report) -> None:
        assert [p.tokens for p in found.prefill] == [16, 32, 64, 128, 256]
        assert [p.context for p in found.decode] == [16, 32, 64, 128, 256]
        assert [p.passes for p in found.prefill] == [1, 1, 1, 1, 2]

    @pytest.mark.parametrize("tokens", [16, 128])
    def test_prompt_is_what_the_cycle_model_plays_with_all_layers(
        self, found: report_facts.Report, schedule: Schedule, planned: Plan, tokens: int
    ) -> None:
        run = play(schedule, measure(planned.config, BOARD), prompt=tokens, generate=1)
        point = next(p for p in found.prefill if p.tokens == tokens)
        assert point.cycles == run.passes[-1].cycles
        assert {p.name: p.cycles for p in point.phases} == {
            name: count.cycles for name, _, _, count in run.passes[-1].phases
        }

    def test_token_is_what_the_cycle_model_predicts(
        self, found: report_facts.Report, schedule: Schedule, planned: Plan
    ) -> None:
        wanted = predict(schedule, measure(planned.config, BOARD), Pass(1, 127, True))
        point = next(p for p in found.decode if p.context == 128)
        assert point.cycles == wanted.total
        assert point.lanes_busy == pytest.approx(wanted.lane_use, abs=1e-4)
        assert [p.bound for p in point.phases] == [p.bound for p in wanted.phases]

    def test_bytes_read_are_those_of_the_phases(self, found: report_facts.Report) -> None:
        for point in (*found.prefill, *found.decode):
            traffic = point.traffic
            assert traffic.total - traffic.written == sum(p.bytes for p in point.phases)
            assert traffic.total == sum(
                (traffic.weights, traffic.keys_values, traffic.embeddings, traffic.written)
            )

    def test_nothing_beats_the_ideal(self, found: report_facts.Report) -> None:
        for point in (*found.prefill, *found.decode):
            assert 0 < point.roofline_fraction <= 1
            assert 0 < point.lanes_busy <= point.roofline_fraction
            assert 0 < point.bandwidth_used <= 1
            assert point.needed_bytes <= point.traffic.total
            assert sum(p.macs for p in point.phases) == point.macs

    def test_decoding_is_bound_by_memory(self, found: report_facts.Report) -> None:
        assert {p.bound for p in found.decode} == {"memory"}

    def test_timelines_are_one_layer(self, found: report_facts.Report) -> None:
        for line in found.timelines:
            assert line.section == "layer"
            assert line.phases[0].start == 0
            assert all(a.end <= b.start for a, b in zip(line.phases, line.phases[1:], strict=False))
            assert line.cycles == line.phases[-1].end

    def test_reads_in_time_are_bytes_of_the_layer(
        self, found: report_facts.Report, planned: Plan
    ) -> None:
        """What crosses the ports in a layer is what its phases take, but for what the rings hold."""
        c = planned.config
        held = c.ports * c.port_bytes * sum(shape.words for _, shape in measure(c, BOARD).clients)
        for line in found.timelines:
            per_bin = found.memory.bytes_per_cycle * line.reads.bin_cycles
            crossed = {k: per_bin * sum(getattr(line.reads, k)) for k in ("weights", "keys_values")}
            phases = [
                p for p in found.decode[-1].phases if p.name in {m.phase for m in line.phases}
            ]
            layer = c.stream_stripes(c.layers) * c.stripe_bytes / c.layers
            assert crossed["weights"] == pytest.approx(layer, abs=held)
            attention = next(p for p in phases if p.name == "attention")
            if line.name == "decode":
                assert crossed["keys_values"] == pytest.approx(attention.bytes / c.layers, rel=0.02)
            parts = (line.reads.weights, line.reads.keys_values, line.reads.embeddings)
            assert max(map(sum, zip(*parts, strict=True))) <= 1 + 1e-3


class TestFile:
    def test_every_key_is_documented(self) -> None:
        text = DOCUMENT.read_text(encoding="utf-8")
        models = [
            value
            for value in (*vars(report_facts).values(), *vars(blocks).values())
            if isinstance(value, type) and issubclass(value, BaseModel)
        ]
        for model in models:
            for name in model.model_fields:
                assert f"`{name}`" in text, f"{model.__name__}.{name}"

    def test_only_the_key_build_differs_from_build_to_build(
        self, built: Path, planned: Plan, tmp_path: Path
    ) -> None:
        for name in ("schedule.yaml", "design.json", "hwgen_registers.h"):
            (tmp_path / name).write_bytes((built / name).read_bytes())
        (tmp_path / "rtl").symlink_to(built / "rtl")
        report.write_report(tmp_path, CARD, BOARD, planned, seconds=987.6)
        assert (tmp_path / "report.html").read_bytes() == (built / "report.html").read_bytes()
        one, other = (json.loads((f / "report.json").read_text()) for f in (built, tmp_path))
        assert one.pop("build") == {"seconds": 1.25}
        assert other.pop("build") == {"seconds": 987.6}
        assert one == other

    def test_blocks_are_those_of_the_rtl(
        self, found: report_facts.Report, built: Path, planned: Plan
    ) -> None:
        """A tile of weights and of activations reach the engine; modules are files; rows of sums leave it."""
        assert found.blocks is not None
        c, links = planned.config, {(k.source, k.sink): k.bits for k in found.blocks.links}
        assert links["memory", "engine"] == 8 * c.lanes * c.lanes
        assert links["activations", "engine"] == 8 * c.lanes * c.tokens
        assert links["residual", "drain"] == 16 * c.lanes
        names = [part.name for part in found.blocks.parts]
        assert [n for n in names if n.startswith("m_axi")] == [
            f"m_axi_g{p:02d}" for p in range(c.ports)
        ]
        design = json.loads((built / "design.json").read_text())
        modules = {module["name"] for module in design["modules"]}
        assert {part.module for part in found.blocks.parts} - {None} <= modules
        assert not any("probe" in name for name in names)

    def test_memory_map_covers_the_memory(self, found: report_facts.Report) -> None:
        memory = found.memory
        assert sum(r.bytes for r in memory.regions) == memory.total_bytes <= memory.available_bytes
        assert memory.weight_bytes <= memory.weight_stream_bytes

    @pytest.mark.parametrize("text", [None, "{}", "not JSON"])
    def test_a_folder_without_a_report_is_refused(self, tmp_path: Path, text: str | None) -> None:
        if text is not None:
            (tmp_path / "report.json").write_text(text)
        with pytest.raises(DesignError, match=r"report\.json|build it again"):
            report.load(tmp_path)

    def test_another_version_is_refused(self, built: Path, tmp_path: Path) -> None:
        data = json.loads((built / "report.json").read_text()) | {"version": 99}
        (tmp_path / "report.json").write_text(json.dumps(data))
        with pytest.raises(DesignError, match="has version 99, not 1: build it again"):
            report.load(tmp_path)


class Page(HTMLParser):
    """Links, and tags that are not closed in order."""

    VOID = ("meta", "rect", "line", "path", "circle", "br")

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(built: Path) -> Page:
    parser = Page()
    parser.feed((built / "report.html").read_text(encoding="utf-8"))
    return parser


class TestComparison:
    def test_with_itself_every_ratio_is_one(self, found: report_facts.Report) -> None:
        rows = compare(found, found)
        names = [(row.name, row.unit) for row in rows]
        assert len(set(names)) == len(names)
        assert ("prompt of 256", "cycles") in names and ("one token at 16", "ms") in names
        assert {row.ratio for row in rows} == {1.0, None}
        assert all(row.one == row.two == 0 for row in rows if row.ratio is None)

    def test_another_engine(self, found: report_facts.Report) -> None:
        """The figures are those of the reports, and lengths that only one has are left out."""
        other = plan(CARD, BOARD, parse_engine("tree:mac:1x8x8"))
        schedule = sequential(
            lower(transformer_model(CARD)), measure(other.config, BOARD), clock_mhz=BOARD.clock_mhz
        )
        less = report.make_report(CARD, BOARD, other, schedule, seconds=0.0)
        less = less.model_copy(update={"prefill": less.prefill[1:]})
        rows = {(row.name, row.unit): row for row in compare(found, less)}
        assert ("prompt of 16", "cycles") not in rows
        slower = rows["prompt of 128", "cycles"]
        assert (slower.one, slower.two) == (found.prefill[3].cycles, less.prefill[2].cycles)
        assert slower.ratio is not None and slower.ratio > 1
        products = rows["products a cycle", ""]
        assert (products.one, products.two) == (found.lanes, 64)
        assert rows["DSP", ""].two == less.resources.used["dsp"]

    def test_a_resource_of_one_target_only(self, found: report_facts.Report) -> None:
        used = {k: v for k, v in found.resources.used.items() if k != "dsp"}
        poor = found.resources.model_copy(update={"used": used})
        rows = compare(found, found.model_copy(update={"resources": poor}))
        (dsp,) = [row for row in rows if row.name == "DSP"]
        assert (dsp.two, dsp.ratio) == (None, None)

    def test_command(self, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["compare", str(built), str(built)]) == 0
        lines = capsys.readouterr().out.splitlines()
        (row,) = [line for line in lines if line.startswith("prompt of 64") and "cycles" in line]
        assert row.split()[-1] == "1.000"
        assert cli.run(["compare", str(built), str(tmp_path)]) == 2
        assert "has no report.json" in capsys.readouterr().err


class TestPage:
    def test_is_well_formed_with_its_drawings(self, page: Page) -> None:
        assert page.open == []
        # blocks, roofline, two schedules with a view each, resources, memory
        assert page.tags.count("svg") == 8
        assert page.tags.count("script") == 1

    def test_needs_nothing_else(self, built: Path, page: Page) -> None:
        text = (built / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"https?://|@import|url\(", text)
        assert str(built) not in text
        assert page.links
        for link in page.links:
            assert (built / link).is_file(), link

    def test_pictures_stand_alone(self, found: report_facts.Report) -> None:
        drawn = report_page.pictures(found)
        names = {"blocks", "roofline", "prefill", "decode", "resources", "memory"}
        assert set(drawn) == names
        for svg in drawn.values():
            root = ElementTree.fromstring(svg)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            used = {name for e in root.iter() for name in e.get("class", "").split()}
            style = root[0].text or ""
            unstyled = {name for name in used if not re.search(rf"\.{name}\b", style)}
            assert unstyled <= {"tick", "area", "part", "label"}

    def test_no_number_went_wrong(self, built: Path) -> None:
        text = (built / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"\b(nan|inf|None)\b", text)


class TestSynthesis:
    def result(self, built: Path, unfinished: tuple[str, ...] = ()) -> SynthesisResult:
        design = json.loads((built / "design.json").read_text())
        modules = []
        for entry in design["modules"]:
            counted = not entry["name"].startswith(unfinished) if unfinished else True
            modules.append(
                ModuleResources(
                    name=entry["name"],
                    count=entry["count"],
                    basis="yosys" if counted else "unknown",
                    resources=Resources(lut=10) if counted else Resources(),
                )
            )
        return SynthesisResult(
            top=design["top"], target="sim-small", family="xcup", tool="yosys 0",
            modules=tuple(modules), available=Resources(), seconds=0,
        )  # fmt: skip

    @pytest.fixture
    def copy(self, built: Path, tmp_path: Path) -> Path:
        for name in ("report.json", "design.json"):
            (tmp_path / name).write_bytes((built / name).read_bytes())
        return tmp_path

    def test_counts_replace_the_estimate(self, built: Path, copy: Path) -> None:
        result = self.result(built)
        report.apply_synthesis(copy, result)
        facts = report.load(copy).resources
        assert facts.basis == "yosys"
        assert facts.tool == "yosys 0"
        assert facts.used["lut"] == sum(10 * m.count for m in result.modules)
        assert facts.used["dsp"] == 0
        assert "yosys 0" in (copy / "report.html").read_text()

    def test_every_module_belongs_to_a_block(self, built: Path, copy: Path) -> None:
        report.apply_synthesis(copy, self.result(built))
        assert "other" not in [block.name for block in report.load(copy).resources.blocks]

    def test_a_block_that_was_not_finished_keeps_its_estimate(
        self, built: Path, copy: Path
    ) -> None:
        before = {b.name: b for b in report.load(built).resources.blocks}
        report.apply_synthesis(copy, self.result(built, unfinished=("tree_array",)))
        after = {b.name: b for b in report.load(copy).resources.blocks}
        assert report.load(copy).resources.basis == "yosys and estimate"
        assert after["engine"] == before["engine"]
        assert after["softmax"].basis == "yosys"

    def test_standard_cells_stand_beside_the_counts(self, built: Path, copy: Path) -> None:
        fit = Fit(
            critical_ns=2.5, area_um2=1234, sequential_um2=99, script="gia", adder="sklansky",
            booth=True, target_ps=1,
        )  # fmt: skip
        result = AsicResult(
            top="top", library="tiny", conditions="1.2 V", tool="yosys 0", timer="OpenSTA 2",
            modules=(
                AsicModule(name="alpha", count=2, fits=(fit,), macro_bits=4096),
                AsicModule(name="omega", count=1, note="not finished in 7 s"),
            ),
            sweep=(Target(target_ns=3, period_ns=2.5, slowest="alpha", area_um2=2468),),
            macro_bits=8192, macro_rule="large ones",
        )  # fmt: skip
        report.apply_synthesis(copy, self.result(built))
        report.apply_asic(copy, result)
        assert report.load(copy).asic == result
        assert report.load(copy).resources.tool == "yosys 0"
        page = (copy / "report.html").read_text()
        for text in ("timed by OpenSTA 2", "1,234", "2.500", "omega is missing", "large ones"):
            assert text in page
        assert "Standard cells" not in (built / "report.html").read_text()

    def test_too_much_does_not_fit(self, built: Path, copy: Path) -> None:
        result = self.result(built)
        many = result.modules[0].model_copy(update={"resources": Resources(lut=10**6)})
        report.apply_synthesis(
            copy, result.model_copy(update={"modules": (many, *result.modules[1:])})
        )
        facts = report.load(copy).resources
        assert not facts.fits
        assert facts.reasons[0].startswith("LUT: 1000")
        assert "does not fit" in (copy / "report.html").read_text()
