# SPDX-License-Identifier: Apache-2.0
"""A card behind XRT, by its Python binding ``pyxrt``, which comes with XRT and is imported only here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from designs.errors import DesignError
from hw.control.registers import register_map
from hwgen.runtime.decoding import Stripes, weights_of
from sim.built import Built
from sim.errors import ToolError

__all__ = ["XrtDevice", "arguments_of", "find_xclbin"]

_PAGE = 4096
"""Buffers are whole pages, and begin with one."""

_PIECE = 1 << 24
"""Bytes of weights that are rearranged at a time."""


def find_xclbin(folder: Path, given: Path | None) -> Path:
    """The linked kernel: what was given, or the only one below a build.

    Raises
    ------
    DesignError
        If there is none, or one of several must be chosen.
    """
    found = [given] if given is not None else sorted(folder.rglob("*.xclbin"))
    if not found:
        raise DesignError(
            f"{folder} has no xclbin: link one (hwgen export {folder} --flow vitis), or name it by xclbin="
        )
    if len(found) > 1:
        raise DesignError(
            f"{folder} has {len(found)} xclbin files, name one by xclbin=: {', '.join(map(str, found))}"
        )
    if not found[0].is_file():
        raise DesignError(f"{found[0]} is not a file: xclbin= names what v++ linked")
    return found[0]


def arguments_of(built: Built) -> dict[str, int]:
    """The number of each kernel argument by the name of its register: XRT counts them by their offsets.

    Raises
    ------
    DesignError
        If the build has other registers than this version.
    """
    arguments = register_map(built.map.ports, list(built.counters)).arguments
    if any(built.registers.get(r.name) != r.offset for r in arguments):
        raise DesignError(f"{built.folder} is of another version of hwgen: build it again")
    return {register.name: at for at, register in enumerate(arguments)}


class XrtDevice:
    """A card: a buffer behind each memory port, and the kernel whose arguments are the registers.

    Raises
    ------
    DesignError
        If the build has no weights, or its registers are not those of this version.
    ToolError
        If there is no pyxrt, or XRT refuses the card, the kernel or a buffer.
    """

    def __init__(self, built: Built, xclbin: Path, index: int, timeout_s: float | None) -> None:
        image = weights_of(built)
        self._built, self._arguments = built, arguments_of(built)
        self._timeout_ms = 0 if timeout_s is None else max(1, round(timeout_s * 1000))
        self._xrt = _pyxrt()
        with _explained(f"card {index}"):
            self._device: Any = self._xrt.device(index)
            uuid = self._device.load_xclbin(self._xrt.xclbin(str(xclbin)))
        with _explained(f"kernel {built.top}"):
            self._kernel: Any = self._xrt.kernel(
                self._device, uuid, built.top, self._xrt.kernel.exclusive
            )
        size = -(-built.map.bytes_per_port // _PAGE) * _PAGE
        self._buffers: list[Any] = []
        for port in range(built.map.ports):
            with _explained(f"a buffer of {size} bytes for memory port {port}"):
                group = self._kernel.group_id(self._arguments[f"memory_{port}"])
                buffer = self._xrt.bo(self._device, size, self._xrt.bo.normal, group)
            self._buffers.append(buffer)
        self._write_image(image)

    def _write_image(self, image: Path) -> None:
        stripe = self._built.map.stripe_bytes
        space = np.memmap(image, np.uint8, "r")
        stripes = space[: space.size // stripe * stripe].reshape(-1, stripe)
        step = max(1, _PIECE // stripe)
        for first in range(0, len(stripes), step):
            self.write(first, stripes[first : first + step])

    def write(self, stripe: int, data: Stripes) -> None:
        """See `Device`."""
        width = self._built.map.port_bytes
        parts = data.reshape(len(data), -1, width)
        for port, buffer in enumerate(self._buffers):
            piece = np.ascontiguousarray(parts[:, port])
            with _explained(f"writing to the buffer of memory port {port}"):
                buffer.write(piece.tobytes(), stripe * width)
                direction = self._xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE
                buffer.sync(direction, piece.size, stripe * width)

    def read(self, stripe: int, count: int) -> Stripes:
        """See `Device`."""
        memory = self._built.map
        found = np.empty((count, memory.ports, memory.port_bytes), np.uint8)
        size, at = count * memory.port_bytes, stripe * memory.port_bytes
        for port, buffer in enumerate(self._buffers if count else ()):
            with _explained(f"reading the buffer of memory port {port}"):
                direction = self._xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE
                buffer.sync(direction, size, at)
                data = np.frombuffer(buffer.read(size, at), np.uint8)
            found[:, port] = data.reshape(count, memory.port_bytes)
        return found.reshape(count, memory.stripe_bytes)

    def run(self, arguments: Mapping[str, int]) -> dict[str, int]:
        """See `Device`; pyxrt reads no registers.

        Raises
        ------
        ToolError
            If the kernel did not complete, or not in time.
        """
        values: dict[str, Any] = dict(arguments)
        values |= {f"memory_{port}": buffer for port, buffer in enumerate(self._buffers)}
        with _explained("a run of the kernel"):
            run = self._kernel(*(values[name] for name in self._arguments))
            state = run.wait(self._timeout_ms)
        if state != self._xrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED:
            limit = f" in {self._timeout_ms / 1000:g} s" if self._timeout_ms else ""
            raise ToolError(
                f"the kernel did not complete{limit}: XRT says {getattr(state, 'name', state)}"
            )
        return {}

    def close(self) -> None:
        """See `Device`: the objects of XRT end with their last reference, buffers first."""
        self._buffers.clear()
        self._kernel = self._device = None


def _pyxrt() -> Any:
    try:
        import pyxrt  # type: ignore[import-not-found]
    except ImportError as error:
        raise ToolError(
            f"the back end xrt needs pyxrt ({error}): install XRT and source its setup.sh, which puts it on PYTHONPATH"
        ) from None
    return pyxrt


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """XRT's errors as one line that says what was tried."""
    try:
        yield
    except RuntimeError as error:  # what the binding makes of every exception of C++
        raise ToolError(f"XRT: {what}: {' '.join(str(error).split())}") from error
