# SPDX-License-Identifier: Apache-2.0
"""PIM channels as RTL: built with Verilator, fed from files of commands, read back as Python values."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hw.pim.commands import Cmd, command_layout, pim_layout, request_layout
from hw.pim.config import PimConfig
from hw.templates import environment
from sim import processes, verilator
from sim.errors import SimulationError
from sim.pim.controller import Request, Timed
from sim.pim.protocol import Command

__all__ = ["Outcome", "build", "pack", "run", "unpack"]

HERE = Path(__file__).parent


@dataclass
class Outcome:
    """What one channel did.

    Attributes
    ----------
    commands : each with its cycle.
    reads, results : cycle and word of every burst read, of every READRES.
    faults : cycle and :class:`hw.pim.commands.Fault`.
    failed : assertions that failed, by label, in the order in which they did.
    """

    commands: list[Timed] = field(default_factory=list)
    reads: list[tuple[int, int]] = field(default_factory=list)
    results: list[tuple[int, int]] = field(default_factory=list)
    faults: list[tuple[int, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def build(
    devices: Mapping[str, tuple[str, PimConfig]],
    sources: Sequence[Path],
    folder: Path,
    optimise: str = "-O0",
) -> Path:
    """Compile channels side by side; return the program.

    Parameters
    ----------
    devices : module and parameters of each channel, by a name.
    sources : their Verilog.
    folder : where to.
    optimise : of the C++ compiler: short runs compile for longer than they run.

    Raises
    ------
    ToolError
        If Verilator or the compiler fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        {
            "name": name, "module": module, "pim": pim_layout(c).size,
            "mem": request_layout(c).size, "ca": command_layout(c).size,
            "res": c.banks * c.res_bits,
        }
        for name, (module, c) in devices.items()
    ]  # fmt: skip
    bench = folder / "pim_bench.sv"
    bench.write_text(environment(HERE).get_template("bench.sv.j2").render(devices=parts))
    command = [
        "verilator", "--cc", "--exe", "--build", "-j", "2", "--no-timing", "--assert",
        "--x-assign", "fast", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--output-split", "20000",
        "--top", "pim_bench", "-CFLAGS", f"-DDEVICES={len(devices)} {optimise}", "--Mdir", "obj",
        "--no-stop-fail", str(HERE / "main.cpp"), str(bench.resolve()),
        *(str(s.resolve()) for s in sources),
    ]  # fmt: skip
    log = folder / "build.log"
    log.unlink(missing_ok=True)
    processes.run_all(
        [processes.Command("Verilator", command)],
        folder=folder, log=log, environment=verilator.environment(),
    )  # fmt: skip
    return folder / "obj" / "Vpim_bench"


def pack(layout, values: Mapping[str, int]) -> int:
    """A word of the layout with these fields, the others 0."""
    word = 0
    for name, value in values.items():
        part = layout[name]
        if not 0 <= value < 1 << part.width:
            raise ValueError(f"{name} has {part.width} bits, too few for {value}")
        word |= value << part.offset
    return word


def unpack(layout, word: int) -> dict[str, int]:
    """The fields of a word."""
    return {
        name: word >> layout[name].offset & (1 << layout[name].width) - 1 for name in layout.members
    }


def run(
    program: Path,
    devices: Mapping[str, PimConfig],
    pim: Mapping[str, Sequence[tuple[int, Command, int]]],
    mem: Mapping[str, Sequence[tuple[int, Request]]],
    folder: Path,
    limit: int = 1_000_000,
    strict: bool = True,
) -> dict[str, Outcome]:
    """Play queues into the channels of ``program``.

    Parameters
    ----------
    program : of :func:`build`.
    devices : parameters of each channel, by name.
    pim : commands of each channel: first cycle, command, data of WRGB.
    mem : its reads and writes: first cycle, request.
    folder : for the files.
    limit : cycles.
    strict : all must be done by then.

    Raises
    ------
    SimulationError
        If a channel is not done after ``limit`` cycles.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, c in devices.items():
        words, layout = pim_layout(c), command_layout(c)
        with (folder / f"{name}.pim").open("w") as file:
            for at, command, data in pim.get(name, ()):
                word = pack(layout, command._asdict()) << words["command"].offset
                file.write(f"{at} {word | data << words['data'].offset:x}\n")
        layout = request_layout(c)
        with (folder / f"{name}.mem").open("w") as file:
            for at, request in mem.get(name, ()):
                file.write(f"{at} {pack(layout, request._asdict()):x}\n")
    with processes.started(
        [program.resolve(), str(limit)], cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        said, complained = process.communicate()
    failed = [line for line in said.splitlines() if "Assertion failed" in line]
    if process.returncode and strict:
        raise SimulationError(
            f"A channel did not finish in {limit} cycles"
            + (f"; {failed[0]}" if failed else f": {said[-500:]}{complained[-500:]}")
        )
    outcomes = {name: _read(folder / f"{name}.out", c) for name, c in devices.items()}
    for line in failed:
        where = line.split("Assertion failed in ")[1].split(":")[0].split(" ")[0].split(".")
        device = next(part for part in where if part in outcomes)
        outcomes[device].failed.append(where[-1])
    return outcomes


def _read(path: Path, c: PimConfig) -> Outcome:
    outcome, layout = Outcome(), command_layout(c)
    for line in path.read_text().splitlines():
        kind, cycle, word = line.split()
        if kind == "c":
            fields = unpack(layout, int(word, 16))
            command = Command(Cmd(fields.pop("cmd")), **fields)
            outcome.commands.append((int(cycle), command))
        elif kind == "f":
            outcome.faults.append((int(cycle), int(word)))
        else:
            (outcome.reads if kind == "r" else outcome.results).append((int(cycle), int(word, 16)))
    return outcome
