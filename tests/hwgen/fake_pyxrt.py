# SPDX-License-Identifier: Apache-2.0
"""A pyxrt whose card is the compiled simulator: kernel arguments become register writes, buffers its memory.

Only what the binding of XRT 2.13 and later has, with its habits: a buffer has a copy on the host and one on the card,
and ``sync`` moves bytes between them; arguments are set by number, in the order of the registers that the C header of
the build names; errors of C++ are RuntimeError.
"""

import re
import tempfile
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from sim.built import Built, load
from sim.model import compile_model
from sim.runner import Job, execute

__all__ = ["module"]

_UNSET = 0xDEAD_0000_0000


class Direction(Enum):
    """Of ``bo.sync``."""

    XCL_BO_SYNC_BO_TO_DEVICE = 0
    XCL_BO_SYNC_BO_FROM_DEVICE = 1


class State(Enum):
    """Of a run."""

    ERT_CMD_STATE_COMPLETED = 4
    ERT_CMD_STATE_ERROR = 5
    ERT_CMD_STATE_TIMEOUT = 8


def arguments(header: str) -> list[tuple[int, int]]:
    """``(offset, bits)`` of each kernel argument, from the C header of a build."""
    found = re.findall(
        r"/\* (\d+) bits, read and write: .*\n#define HWGEN_\w+ 0x([0-9a-f]+)u", header
    )
    return [(int(offset, 16), int(bits)) for bits, offset in found]


def module(out: Path, faults: frozenset[str] = frozenset()) -> Any:
    """The module for one build; it keeps what happened in ``log``.

    ``faults``: ``timeout``: no run ends; ``bank``: buffers are refused.
    """
    built: Built = load(out)
    offsets = arguments((out / "hwgen_registers.h").read_text())
    log: list[str] = []
    registers: dict[int, int] = {}  # after the last run

    class Device:
        def __init__(self, index: int) -> None:
            if index:
                raise RuntimeError(f"Could not open device with index '{index}'")

        def load_xclbin(self, xclbin: "Xclbin") -> str:
            return Path(xclbin.path).read_text()

    class Xclbin:
        def __init__(self, path: str) -> None:
            self.path = path

    class Buffer:
        normal = "normal"

        def __init__(self, device: Device, size: int, flags: str, group: int) -> None:
            if "bank" in faults:
                raise RuntimeError("failed to allocate\nbuffer")
            assert size % 4096 == 0 and flags == Buffer.normal
            self.group, self.host, self.card = group, bytearray(size), bytearray(b"\xcc" * size)

        def address(self) -> int:
            return built.base(self.group)

        def write(self, data: bytes, seek: int) -> None:
            assert seek + len(data) <= len(self.host)
            self.host[seek : seek + len(data)] = data

        def read(self, size: int, skip: int) -> np.ndarray:
            return np.frombuffer(bytes(self.host[skip : skip + size]), np.int8)

        def sync(self, direction: Direction, size: int, offset: int) -> None:
            part = slice(offset, offset + size)
            if direction is Direction.XCL_BO_SYNC_BO_TO_DEVICE:
                self.card[part] = self.host[part]
            else:
                self.host[part] = self.card[part]

    class Kernel:
        exclusive = "exclusive"

        def __init__(self, device: Device, uuid: str, name: str, mode: str) -> None:
            if name != "hwgen_top":
                raise RuntimeError(f"No such kernel '{name}'")

        def group_id(self, argument: int) -> int:
            memories = [at for at, (_, bits) in enumerate(offsets) if bits == 64]
            return memories.index(argument)

        def __call__(self, *values: Any) -> "Run":
            return Run(values)

        def read_register(self, offset: int) -> int:
            return registers[offset]

    class Run:
        def __init__(self, values: tuple[Any, ...]) -> None:
            self.values = values

        def wait(self, timeout_ms: int) -> State:
            if "timeout" in faults:
                return State.ERT_CMD_STATE_TIMEOUT
            writes: list[tuple[int, int]] = []
            buffers: dict[int, Buffer] = {}
            for at, (offset, bits) in enumerate(offsets):
                value = self.values[at] if at < len(self.values) else _UNSET
                if isinstance(value, Buffer):
                    assert bits == 64
                    buffers[value.group], value = value, value.address()
                writes += [(offset + 4 * k, value >> 32 * k) for k in range(bits // 32)]
            log.append(" ".join(f"{offset:#x}={value & 0xFFFFFFFF:#x}" for offset, value in writes))
            return (
                State.ERT_CMD_STATE_COMPLETED
                if play(writes, buffers)
                else State.ERT_CMD_STATE_ERROR
            )

    def play(writes: list[tuple[int, int]], buffers: dict[int, Buffer]) -> bool:
        memory = built.map
        space = np.zeros(memory.total_bytes, np.uint8)
        for port, buffer in buffers.items():
            view = memory.port_view(space, port)
            view[:] = np.frombuffer(buffer.card, np.uint8)[: view.size].reshape(view.shape)
        with tempfile.TemporaryDirectory() as name:
            before, after = Path(name) / "before", Path(name) / "after"
            space.tofile(before)
            reads = {name: offset for name, offset in built.registers.items() if offset >= 0x10}
            job = Job(
                built, image=before, dumps=[(0, space.size, after)], writes=writes, reads=reads
            )
            speed = "fast-build" if built.is_small else "fast-run"
            outcome = execute(compile_model(out, speed=speed, probes=False), job)
            log.extend(outcome.errors)
            registers.update({reads[name]: word for name, word in outcome.registers.items()})
            space = np.fromfile(after, np.uint8)
        for port, buffer in buffers.items():
            data = memory.port_view(space, port).tobytes()
            buffer.card[: len(data)] = data
        return not outcome.errors

    return SimpleNamespace(
        device=Device, xclbin=Xclbin, bo=Buffer, kernel=Kernel, ert_cmd_state=State,
        xclBOSyncDirection=Direction, log=log,
    )  # fmt: skip
