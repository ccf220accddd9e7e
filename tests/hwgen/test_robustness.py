# SPDX-License-Identifier: Apache-2.0
"""What a folder holds when a command is killed, the disk is full, or two commands want it; what no file can do."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from designs.errors import DesignError
from generators.files import locked, new_folder, write
from generators.synth import modules_of
from hwgen import cli

ROOT = Path(__file__).parents[2]


def content(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def fill(folder: Path, text: str) -> None:
    (folder / "a").write_text(text)
    (folder / "b").mkdir()
    (folder / "b" / "c").write_text(text)


def whole(text: str) -> dict[str, str]:
    return {"a": text, "b/c": text}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import os, signal\nfrom pathlib import Path\n{code}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


KILL = "os.kill(os.getpid(), signal.SIGKILL)"


class TestKilled:
    """A folder is the old one or the new one, and the next command leaves nothing of the killed one."""

    @pytest.mark.parametrize(
        ("exchange", "moment"),
        [
            (True, "in the block"),
            (True, "before it is put there"),
            (True, "behind"),
            (False, "before it is put there"),
            (False, "between two renames"),
            (False, "behind"),
        ],
    )
    @pytest.mark.parametrize("before", [True, pytest.param(False, marks=pytest.mark.slow)])
    def test_a_folder(self, tmp_path: Path, exchange: bool, moment: str, before: bool) -> None:
        out = tmp_path / "out[1]"
        if before:
            with new_folder(out) as folder:
                fill(folder, "old")
        lines = [
            "from generators import files",
            f"out = Path({str(out)!r})",
            "real, count = Path.rename, 0",
            "def rename(self, target):",
            "    global count",
            "    count += 1",
            f"    if count == {2 if moment == 'between two renames' else 0}: {KILL}",
            "    return real(self, target)",
            "Path.rename = rename",
        ]
        if not exchange:
            lines.append("files._exchange = lambda one, two: False")
        if moment == "before it is put there":
            lines.append(f"files._put = lambda *_: {KILL}")
        if moment == "behind":
            lines.append(f"files.shutil.rmtree = lambda *_, **__: {KILL}")
        lines += [
            "with files.new_folder(out) as folder:",
            "    (folder / 'a').write_text('new')",
            f"    {KILL if moment == 'in the block' else 'pass'}",
            "    (folder / 'b').mkdir()",
            "    (folder / 'b' / 'c').write_text('new')",
        ]
        died = python("\n".join(lines))
        if moment == "between two renames" and not before:
            assert died.returncode == 0, died.stderr  # there is one only
        else:
            assert died.returncode == -signal.SIGKILL, died.stderr
        if out.exists():
            assert content(out) in (whole("old"), whole("new"))
        else:
            assert not before or moment == "between two renames"
        with pytest.raises(ZeroDivisionError), new_folder(out):
            raise ZeroDivisionError  # the next command, that fails
        assert before is False or out.exists()
        assert {p.name for p in tmp_path.iterdir()} <= {out.name}
        with new_folder(out) as folder:
            fill(folder, "newest")
        assert content(out) == whole("newest")
        assert [p.name for p in tmp_path.iterdir()] == [out.name]

    def test_the_lock_of_a_killed_process_is_free(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        code = f"from generators.files import locked\nwith locked(Path({str(out)!r})): {KILL}"
        assert python(code).returncode == -signal.SIGKILL
        with locked(out):
            pass
        assert list(tmp_path.iterdir()) == []


class TestTwoAtOnce:
    def test_the_second_is_refused(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with new_folder(out) as folder:
            fill(folder, "first")
            message = rf"out is being written by another hwgen \(process {os.getpid()}\)"
            with pytest.raises(DesignError, match=message), new_folder(out):
                pytest.fail("it was let in")
        assert content(out) == whole("first")

    def test_a_command_says_so(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "out"
        with locked(out):
            assert cli.run(["engine", "cube:opt1:2x4x2", "-o", str(out)]) == 2
        assert "by another hwgen" in capsys.readouterr().err
        assert not out.exists()


class TestPaths:
    def test_a_link_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "thesis").write_text("mine")
        out = tmp_path / "out"
        out.symlink_to(mine)
        with new_folder(out) as folder:
            fill(folder, "new")
        assert content(out) == whole("new") and not out.is_symlink()
        assert content(mine) == {"thesis": "mine"}
        assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "out"]

    def test_a_file_behind_a_link_is_not_written(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("mine")
        (tmp_path / "report.json").symlink_to(tmp_path / "mine")
        write(tmp_path / "report.json", "new")
        assert (tmp_path / "mine").read_text() == "mine"

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("top", "../../secret.v"),
            ("top", "/etc/passwd"),
            ("top", ".."),
            ("top", "a/top.v"),
            ("top", 'top".v'),
            ("top; exec -- id", "top.v"),
            ("top\n!id", "top.v"),
            (7, "top.v"),
        ],
    )
    def test_modules_of_a_build_are_files_of_it(
        self, tmp_path: Path, name: object, file: str
    ) -> None:
        """Their names stand in scripts of yosys, which can start programs."""
        (tmp_path / "rtl").mkdir()
        (tmp_path / "rtl" / "top.v").write_text("")
        (tmp_path / "secret.v").write_text("")
        with pytest.raises(DesignError, match=r"design\.json: .* is no module of a build"):
            modules_of(tmp_path, {"modules": [{"name": name, "file": file, "count": 1}]})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 96 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # a library may hold a file


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1, text
    assert "internal error" not in text
    return text


class TestDisk:
    def test_full(self, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = small_disk / "out"
        assert cli.run(["engine", "cube:opt1:16x64x16", "-o", str(out)]) == 3
        assert "No space left" in one_line(capsys)
        assert list(small_disk.iterdir()) == []

    def test_full_for_a_sweep(
        self, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        spec = tmp_path / "spec.yaml"
        spec.write_text("model: tiny-gpt2\nspace: {target: sim-small}\n")
        assert cli.run(["sweep", str(spec), "-o", str(small_disk / "out")]) == 3
        assert "sweep.db: No space left on device" in one_line(capsys)

    def test_read_only(self, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        assert cli.run(["engine", "cube:opt1:2x4x2", "-o", str(small_disk / "out")]) == 3
        assert "Read-only file system" in one_line(capsys)

    def test_files_too_large(self, tmp_path: Path) -> None:
        """What a quota or a limit of the shell does."""
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
        done = subprocess.run(
            [
                sys.executable, "-c", f"{limit}; from hwgen import cli; cli.main()",
                "engine", "cube:opt1:2x4x2", "-o", str(tmp_path / "out"),
            ],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
        assert "File too large" in done.stderr and "internal" not in done.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_nowhere_to_print(self) -> None:
        for command in (["list", "targets"], ["--version"]):
            with Path("/dev/full").open("w") as full:
                done = subprocess.run(
                    [sys.executable, "-m", "hwgen", *command],
                    cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                )  # fmt: skip
            assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
            assert "No space left on device" in done.stderr and "internal" not in done.stderr


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
def test_errors_of_the_disk_without_a_name_are_no_bugs(code: int) -> None:
    status, text = cli.explain(OSError(code, os.strerror(code)))
    assert (status, text) == (3, f"the disk: {os.strerror(code)}")


@pytest.mark.slow
def test_a_build_killed_at_any_moment(tmp_path: Path) -> None:
    """With one of the same name before it: that one stays whole until the new one is there."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "hwgen", "build", "tiny-gpt2", "--target", "sim-small", "--engine", "tree:mac:1x8x8",
        "-o", str(out),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    first = (out / "manifest.json").read_text()
    other = [*command, "--seed", "1"]
    for moment in (0.5, 2, 4, 8, 16):
        process = subprocess.Popen(other, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if (out / "manifest.json").read_text() == first:
            again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            assert "is up to date" in again.stdout
        found = json.loads((out / "manifest.json").read_text())
        assert all((out / name).is_file() for name in found["outputs"])
    subprocess.run(other, cwd=ROOT, check=True, capture_output=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
