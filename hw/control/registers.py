# SPDX-License-Identifier: Apache-2.0
"""The register map as data: the one source of hardware, host code and documentation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Register", "RegisterMap", "kernel_registers", "register_map"]

COUNTERS = 0x400
WINDOW = 0x1000

CONTROL_BITS = {
    "CTRL_START": 0, "CTRL_DONE": 1, "CTRL_IDLE": 2, "CTRL_READY": 3,
    "GIER_ENABLE": 0, "IRQ_DONE": 0, "IRQ_READY": 1,
}  # fmt: skip
"""Bits of the registers of the handshake, by their names in C."""


@dataclass(frozen=True)
class Register:
    """One register; one of 64 bits is two words, the low one first.

    Attributes
    ----------
    name : a lower-case identifier
    offset : of its first byte
    bits : 32 or 64
    access : ``"rw"``: the host writes it, the accelerator reads it; ``"ro"``: the other way round;
        ``"control"``: the handshake and its interrupts, as :class:`ControlRegisters` describes them
    description : one line
    """

    name: str
    offset: int
    bits: int
    access: Literal["control", "rw", "ro"]
    description: str


@dataclass(frozen=True)
class RegisterMap:
    """All registers, by offset.

    Raises
    ------
    ValueError
        If two registers overlap or have one name, or one is outside the window.
    KeyError
        When asked for a name that is not there.
    """

    registers: tuple[Register, ...]

    def __post_init__(self) -> None:
        end, names = 0, set()
        for register in self.registers:
            if register.bits not in (32, 64) or register.offset % 4:
                raise ValueError(f"Register must be 32 or 64 bits of whole words, not {register!r}")
            if register.offset < end or register.offset + register.bits // 8 > WINDOW:
                raise ValueError(
                    f"Register must lie after {end:#x} and within {WINDOW:#x}, not {register!r}"
                )
            if register.name in names:
                raise ValueError(f"Register name must be unique, not {register.name!r}")
            end = register.offset + register.bits // 8
            names.add(register.name)

    def __iter__(self) -> Iterator[Register]:
        return iter(self.registers)

    def __getitem__(self, name: str) -> Register:
        for register in self.registers:
            if register.name == name:
                return register
        raise KeyError(name)

    def offset(self, name: str) -> int:
        """Offset of a register."""
        return self[name].offset

    @property
    def arguments(self) -> tuple[Register, ...]:
        """What the host sets before a start."""
        return tuple(r for r in self.registers if r.access == "rw")

    @property
    def statuses(self) -> tuple[Register, ...]:
        """What the accelerator tells, without the counters."""
        return tuple(r for r in self.registers if r.access == "ro" and r.offset < COUNTERS)

    @property
    def counters(self) -> tuple[Register, ...]:
        """The counters, in the order in which they were named."""
        return tuple(r for r in self.registers if r.access == "ro" and r.offset >= COUNTERS)

    def to_markdown(self) -> str:
        """A table for the documentation."""
        rows = [
            f"| 0x{r.offset:03x} | {r.name} | {r.bits} | {r.access} | {r.description} |"
            for r in self.registers
        ]
        head = ["| offset | name | bits | access | meaning |", "| --- | --- | --- | --- | --- |"]
        return "\n".join(head + rows) + "\n"

    def to_c_header(self, prefix: str = "HWGEN") -> str:
        """A header for C and C++: offsets as macros, and the bits of the handshake."""
        ports = sum(register.bits == 64 for register in self.arguments)
        guard = f"{prefix}_REGISTERS_H"
        lines = [
            "/* Registers of the accelerator, behind AXI4-Lite: words of 32 bits, little endian.",
            "   Made by hwgen; of 64 bits is the low word first. */",
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            f"#define {prefix}_WINDOW {WINDOW}u /* bytes of the window */",
            f"#define {prefix}_PORTS {ports}u /* memory ports, each with a base address */",
            "",
        ]
        for register in self.registers:
            name, size = f"{prefix}_{register.name.upper()}", f"{register.bits} bits"
            access = {"rw": "read and write", "ro": "read only", "control": "handshake"}
            lines += [
                f"/* {size}, {access[register.access]}: {register.description} */",
                f"#define {name} 0x{register.offset:03x}u",
            ]
        lines += ["", "/* Bits of CTRL, of GIER, and of IP_IER and IP_ISR (IRQ). */"]
        lines += [f"#define {prefix}_{name} (1u << {bit})" for name, bit in CONTROL_BITS.items()]
        return "\n".join([*lines, "", f"#endif /* {guard} */"]) + "\n"


def register_map(ports: int, counters: Sequence[str]) -> RegisterMap:
    """The registers of an accelerator with ``ports`` memory ports and the counters named.

    Raises
    ------
    ValueError
        If they do not fit, or a name occurs twice.
    """
    return _map(
        ports,
        counters,
        Register("prompt", 0x10, 32, "rw", "tokens to read from the token region, 1 or more"),
        Register("generate", 0x18, 32, "rw", "tokens to generate; 0 fills the cache only"),
        Register("position", 0x20, 32, "rw", "position of the first prompt token: tokens cached"),
        Register("layers", 0x28, 32, "rw", "layers to run, 1 to all"),
        Register("generated", 0x30, 32, "ro", "tokens generated so far"),
        *CYCLES,
        Register("token", 0x40, 32, "ro", "the last generated token"),
    )


def kernel_registers(ports: int, counters: Sequence[str]) -> RegisterMap:
    """The registers of a machine that plays one kernel; the errors are those of :func:`register_map`."""
    return _map(ports, counters, *CYCLES)


CYCLES = (
    Register("cycles", 0x38, 32, "ro", "cycles since start, low word"),
    Register("cycles_high", 0x3C, 32, "ro", "cycles since start, high word"),
)


def _map(ports: int, counters: Sequence[str], *own: Register) -> RegisterMap:
    if not 1 <= ports <= (COUNTERS - 0x80) // 12:
        raise ValueError(f"Ports must be 1 to {(COUNTERS - 0x80) // 12}, not {ports!r}")
    fixed = [
        Register(
            "ctrl", 0x00, 32, "control",
            "bit 0 start, 1 done (clears on read), 2 idle, 3 ready (clears on read)",
        ),
        Register("gier", 0x04, 32, "control", "bit 0: the interrupt output is enabled"),
        Register("ip_ier", 0x08, 32, "control", "interrupt on bit 0 done, 1 ready"),
        Register("ip_isr", 0x0C, 32, "control", "pending: bit 0 done, 1 ready; writing 1 toggles"),
        *own,
    ]  # fmt: skip
    memories = [
        Register(f"memory_{p}", 0x80 + 12 * p, 64, "rw", f"base address of port {p}, whole 4 KiB")
        for p in range(ports)
    ]
    counted = [
        Register(name, COUNTERS + 4 * k, 32, "ro", "counter") for k, name in enumerate(counters)
    ]
    return RegisterMap((*fixed, *memories, *counted))
