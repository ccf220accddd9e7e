# SPDX-License-Identifier: Apache-2.0
"""The host program of an exported Vitis project, run on the simulated accelerator instead of a card.

XRT is replaced by ``sim/cpp/xrt``, which takes from the exported ``kernel.xml`` and ``link.cfg`` what the real
one takes from an xclbin: so host, description and RTL are tried together, through the same registers.
"""

from __future__ import annotations

from pathlib import Path

from designs.progress import Progress
from hw.templates import environment
from sim.built import load
from sim.model import compile_driver, port_names

__all__ = ["compile_host"]

_CPP = Path(__file__).parent / "cpp"


def compile_host(
    out: Path, project: Path, *, stall_percent: int = 10, progress: Progress | None = None
) -> Path:
    """Compile the host program of an export with the simulator of the build that it is of.

    Parameters
    ----------
    out : the build.
    project : what ``hwgen export OUT --flow vitis`` wrote.
    stall_percent : chance that the memory withholds a ready or valid in a cycle.

    Returns
    -------
    Path
        The program; it takes the arguments of ``host/host.cpp``, with ``kernel.xml`` in the place of the
        xclbin.

    Raises
    ------
    DesignError
        If the folder is not a build.
    ToolError
        If a tool is missing or fails.
    """
    built = load(out)
    timing = built.timing
    text = (
        environment(_CPP)
        .get_template("xrt.cpp.j2")
        .render(
            ports=built.ports,
            port_bytes=built.port_bytes,
            port_names=port_names(built),
            latency=timing.latency_cycles,
            bandwidth=(timing.bytes_per_cycle.numerator, timing.bytes_per_cycle.denominator),
            outstanding=timing.outstanding,
            stalls=stall_percent,
            bank_bytes=256 << 20,
        )
    )
    shim = _CPP / "xrt"
    includes = ((project / "host").resolve(), shim, shim / "xrt")
    return compile_driver(built, "host", text, includes, progress)
