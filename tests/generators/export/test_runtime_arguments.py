# SPDX-License-Identifier: Apache-2.0
"""The runtime and the exported kernel agree on what XRT sees: the kernel's name, its arguments, their registers."""

from pathlib import Path
from xml.etree import ElementTree

from designs.progress import SilentProgress
from generators.export import Options, export
from hwgen.runtime.xrt import arguments_of
from sim.built import load
from tests.hwgen.fake_pyxrt import arguments


def test_arguments_are_numbered_as_in_kernel_xml(u280: Path, tmp_path: Path) -> None:
    folder = export(u280, "vitis", tmp_path / "vitis", Options(), SilentProgress()).folder
    (path,) = folder.rglob("kernel.xml")
    kernel = ElementTree.parse(path).getroot().find("kernel")
    assert kernel is not None
    built = load(u280)
    assert kernel.get("name") == built.top  # what the runtime asks XRT for
    found = list(kernel.iter("arg"))
    assert {arg.get("name"): int(arg.get("id", "")) for arg in found} == arguments_of(built)
    offsets = {int(arg.get("id", "")): int(arg.get("offset", ""), 16) for arg in found}
    sizes = {int(arg.get("id", "")): 8 * int(arg.get("size", ""), 16) for arg in found}
    # The stand-in for a card takes them from the C header.
    header = arguments((u280 / "hwgen_registers.h").read_text())
    assert header == [(offsets[at], sizes[at]) for at in range(len(found))]
