# SPDX-License-Identifier: Apache-2.0
"""The terminal: plain lines where there is none, and a live line that leaves nothing behind."""

import io

import pytest

from hwgen.console import Console, duration, quantity


def plain() -> tuple[Console, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Console(out, err), out, err


class TestSteps:
    def test_a_step_is_one_plain_line(self) -> None:
        console, out, _ = plain()
        with console.step("lower", "24 blocks"):
            assert out.getvalue() == ""
        assert out.getvalue().split() == ["lower", "24", "blocks", "0.0", "s"]
        assert out.getvalue().count("\n") == 1
        assert "\x1b" not in out.getvalue()

    def test_the_detail_may_come_late(self) -> None:
        console, out, _ = plain()
        with console.step("emit") as step:
            step.detail = "42 files"
        assert "42 files" in out.getvalue()

    def test_inner_steps_are_indented(self) -> None:
        console, out, _ = plain()
        with console.step("build"), console.step("emit"):
            pass
        inner, outer = out.getvalue().splitlines()
        assert inner.startswith("  emit")
        assert outer.startswith("build")

    @pytest.mark.parametrize(
        ("error", "word"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")]
    )
    def test_a_step_that_ends_early_says_so(self, error: type[BaseException], word: str) -> None:
        console, out, _ = plain()
        with pytest.raises(error), console.step("emit"):
            raise error
        assert out.getvalue().split()[:2] == ["emit", word]

    def test_quiet(self) -> None:
        console, out, _ = plain()
        console.quiet = True
        with console.step("emit"):
            console.advance(1, 2)
        console.say("result")
        assert out.getvalue() == "result\n"

    def test_progress_is_rare_in_a_log(self, monkeypatch: pytest.MonkeyPatch) -> None:
        console, out, _ = plain()
        with console.step("simulate"):
            for done in range(1000):
                console.advance(done, 1000, "36 k cycles/s")
            assert out.getvalue() == ""
            monkeypatch.setattr("hwgen.console._PLAIN_PERIOD", 0.0)
            console.advance(500, 1000, "36 k cycles/s")
        line = out.getvalue().splitlines()[0]
        assert line.split()[:3] == ["simulate", "50", "%"]
        assert "36 k cycles/s" in line
        assert line.endswith("left")

    def test_on_a_terminal_the_live_line_leaves(self) -> None:
        out = io.StringIO()
        console = Console(out, io.StringIO(), terminal=True)
        with console.step("simulate") as step:
            console.text("In the beginning")
            console.advance(1, 2, "36 k cycles/s")
            console.text(" was\nthe word")
            step.detail = "5 tokens"
        text = out.getvalue()
        assert "In the beginning was" in text
        assert "the word" in text
        assert "5 tokens" in text.splitlines()[-1]
        assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is back


class TestResults:
    def test_text_streams_without_line_breaks(self) -> None:
        console, out, _ = plain()
        with console.step("simulate"):
            for piece in ("In", " the", " beginning"):
                console.text(piece)
                assert out.getvalue().endswith(piece)
        assert out.getvalue().startswith("In the beginning\nsimulate")

    def test_text_cannot_steer_the_terminal(self) -> None:
        console, out, _ = plain()
        console.text("a\x1b[2Jb\x00\tc")
        console.end_text()
        assert out.getvalue() == "a\\x1b[2Jb\\x00\\tc\n"

    def test_table(self) -> None:
        console, out, _ = plain()
        console.table(["name", "cycles"], [["a [b]", 1234567], ["c", 5]])
        assert out.getvalue().splitlines() == [
            "name      cycles",
            "a [b]  1,234,567",
            "c              5",
        ]

    def test_empty_table(self) -> None:
        console, out, _ = plain()
        console.table(["name", "cycles"], [])
        assert out.getvalue().splitlines() == ["name  cycles"]

    def test_facts(self) -> None:
        console, out, _ = plain()
        console.facts([("cycles", 123456), ("fits", True)])
        assert out.getvalue() == "cycles  123,456\nfits    yes\n"


class TestErrors:
    def test_an_error_is_one_line_on_standard_error(self) -> None:
        console, out, err = plain()
        console.error("model [x]\nis not known")
        console.warn("slow")
        assert err.getvalue() == "error: model [x] is not known\nwarning: slow\n"
        assert out.getvalue() == ""

    def test_a_long_error_is_not_wrapped(self) -> None:
        console, _, err = plain()
        console.error("word " * 100)
        assert err.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3725, "1 h 02 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (5, "5"), (5.123, "5.12"), (36_100, "36.1 k"), (353.4e6, "353 M"), (2e9, "2 G")],
)
def test_quantity(value: float, text: str) -> None:
    assert quantity(value) == text


def test_quantity_with_unit() -> None:
    assert quantity(2.1e9, "B") == "2.10 GB"
    assert quantity(12, "B") == "12 B"
