# SPDX-License-Identifier: Apache-2.0
"""The DSP48E2 slice of UltraScale(+): attributes, the text of an instance, and a bit-true reference.

A design instantiates the slice by name. For synthesis it stays a black box (yosys and Vivado know the cell); for
simulation ``dsp48e2.v`` beside this file models it. On Versal the vendor's tools retarget DSP48E2 instances to
DSP58 (AM004), so the same text serves both.

Not modelled, and refused: pattern detection, CARRYOUT, wide XOR, SIMD, the logic functions of the ALU, carry-in other
than CARRYIN, and the extension of a multiply-accumulate over two slices.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

__all__ = ["INPUTS", "MODEL", "OUTPUTS", "Dsp48e2", "State", "opmode"]

MODEL = Path(__file__).parent / "dsp48e2.v"
"""The model of the slice for simulation."""

INPUTS: dict[str, int] = {
    "A": 30, "B": 18, "C": 48, "D": 27, "ACIN": 30, "BCIN": 18, "PCIN": 48, "CARRYIN": 1, "CARRYINSEL": 3,
    "CARRYCASCIN": 1, "MULTSIGNIN": 1, "OPMODE": 9, "ALUMODE": 4, "INMODE": 5,
    "CEA1": 1, "CEA2": 1, "CEB1": 1, "CEB2": 1, "CEC": 1, "CED": 1, "CEAD": 1, "CEM": 1, "CEP": 1, "CECTRL": 1,
    "CEALUMODE": 1, "CEINMODE": 1, "CECARRYIN": 1, "RSTA": 1, "RSTB": 1, "RSTC": 1, "RSTD": 1, "RSTM": 1, "RSTP": 1,
    "RSTCTRL": 1, "RSTALUMODE": 1, "RSTINMODE": 1, "RSTALLCARRYIN": 1,
}  # fmt: skip
"""Inputs besides CLK, and their widths."""

OUTPUTS: dict[str, int] = {"P": 48, "PCOUT": 48, "ACOUT": 30, "BCOUT": 18}
"""Outputs that are modelled, and their widths."""

_W = {"0": 0, "P": 1, "RND": 2, "C": 3}
_Z = {"0": 0, "PCIN": 1, "P": 2, "C": 3, "PCIN>>17": 5, "P>>17": 6}
_XY = {"0": 0b0000, "M": 0b0101, "C": 0b1100, "A:B": 0b0011, "P": 0b0010, "A:B+C": 0b1111}


def opmode(*, xy: str = "M", z: str = "0", w: str = "0") -> int:
    """OPMODE by the names of what the multiplexers select: the ALU adds W, X, Y and Z."""
    return _W[w] << 7 | _Z[z] << 4 | _XY[xy]


@dataclass(frozen=True, kw_only=True)
class Dsp48e2:
    """Attributes of a slice, named as in the data sheet; registers are counted (A and B 0 to 2, the others 0 or 1).

    Raises
    ------
    ValueError
        For values that the slice does not have, and for combinations that it does not allow.
    """

    areg: int = 1
    breg: int = 1
    creg: int = 1
    dreg: int = 1
    adreg: int = 1
    mreg: int = 1
    preg: int = 1
    acascreg: int | None = None
    bcascreg: int | None = None
    inmodereg: int = 1
    opmodereg: int = 1
    alumodereg: int = 1
    carryinreg: int = 1
    amultsel: str = "A"
    bmultsel: str = "B"
    preaddinsel: str = "A"
    a_input: str = "DIRECT"
    b_input: str = "DIRECT"
    use_mult: str = "MULTIPLY"
    rnd: int = 0

    def __post_init__(self) -> None:
        for name in ("areg", "breg"):
            self._one_of(name, (0, 1, 2))
        single = ("creg", "dreg", "adreg", "mreg", "preg", "inmodereg", "opmodereg", "alumodereg")
        for name in (*single, "carryinreg"):
            self._one_of(name, (0, 1))
        for name, values in {
            "amultsel": ("A", "AD"), "bmultsel": ("B", "AD"), "preaddinsel": ("A", "B"),
            "a_input": ("DIRECT", "CASCADE"), "b_input": ("DIRECT", "CASCADE"),
            "use_mult": ("MULTIPLY", "DYNAMIC", "NONE"),
        }.items():  # fmt: skip
            self._one_of(name, values)
        for cascade, register in (("acascreg", self.areg), ("bcascreg", self.breg)):
            if getattr(self, cascade) is None:
                object.__setattr__(self, cascade, register)
            self._one_of(cascade, (1, 2) if register == 2 else (register,))
        if not 0 <= self.rnd < 1 << 48:
            raise ValueError(f"RND must be 48 bits, not {self.rnd:#x}")
        if self.use_mult == "NONE" and self.mreg:
            raise ValueError("MREG must be 0 where USE_MULT is NONE")

    def _one_of(self, name: str, values: tuple) -> None:
        if getattr(self, name) not in values:
            known = ", ".join(map(str, values))
            raise ValueError(f"{name.upper()} must be one of {known}, not {getattr(self, name)!r}")

    @property
    def latency(self) -> int:
        """Cycles from the operand A (or D, if it is added first) to P."""
        added = self.adreg if "AD" in (self.amultsel, self.bmultsel) else 0
        return self.areg + added + self.mreg + self.preg

    def parameters(self) -> dict[str, str]:
        """Attributes as Verilog writes them."""
        found = {}
        for f in fields(self):
            value = getattr(self, f.name)
            found[f.name.upper()] = f'"{value}"' if isinstance(value, str) else str(value)
        return found | {"RND": f"48'h{self.rnd:012x}", "CARRYINSELREG": "0"}

    def instance(self, name: str, **ports: str) -> str:
        """Verilog of an instance: ``ports`` are expressions; what is not named is tied off.

        Clock enables of registers that exist are tied high unless they are named, everything else low.
        """
        for port in ports:
            if port not in INPUTS and port not in OUTPUTS and port != "CLK":
                raise ValueError(f"a DSP48E2 has no port {port!r}")
        present = {
            "CEA1": self.areg == 2, "CEA2": self.areg, "CEB1": self.breg == 2, "CEB2": self.breg, "CEC": self.creg,
            "CED": self.dreg, "CEAD": self.adreg, "CEM": self.mreg, "CEP": self.preg, "CECTRL": self.opmodereg,
            "CEALUMODE": self.alumodereg, "CEINMODE": self.inmodereg, "CECARRYIN": self.carryinreg,
        }  # fmt: skip
        tied = {
            port: f"{bits}'d{int(bool(present.get(port, 0)))}"
            for port, bits in INPUTS.items()
            if port not in ports
        }
        parameters = ", ".join(f".{key}({value})" for key, value in self.parameters().items())
        pins = ", ".join(f".{port}({value})" for port, value in (ports | tied).items())
        return f"DSP48E2 #({parameters}) {name} ({pins});"


@dataclass(frozen=True)
class State:
    """What the registers of a slice hold: the reference in Python that ``dsp48e2.v`` must equal."""

    cell: Dsp48e2 = field(repr=False)
    a1: int = 0
    a2: int = 0
    b1: int = 0
    b2: int = 0
    c: int = 0
    d: int = 0
    ad: int = 0
    m: int = 0
    p: int = 0
    opmode: int = 0
    alumode: int = 0
    inmode: int = 0
    carryin: int = 0

    def step(self, pins: dict[str, int]) -> "tuple[dict[str, int], State]":
        """Outputs in this cycle, and the state after the next clock edge.

        ``pins`` are unsigned values of `INPUTS`; a clock enable counts only where its register exists.
        """
        cell = self.cell
        control = {
            name: getattr(self, name) if getattr(cell, f"{name}reg") else pins[name.upper()]
            for name in ("opmode", "alumode", "inmode", "carryin")
        }
        inmode = control["inmode"]
        a_in = pins["ACIN"] if cell.a_input == "CASCADE" else pins["A"]
        b_in = pins["BCIN"] if cell.b_input == "CASCADE" else pins["B"]
        a_first, b_first = (
            (self.a1 if cell.areg == 2 else a_in),
            (self.b1 if cell.breg == 2 else b_in),
        )
        a_second, b_second = (self.a2 if cell.areg else a_in), (self.b2 if cell.breg else b_in)
        gate = inmode >> 1 & 1
        a = self.a1 if inmode & 1 else a_second
        b = self.b1 if inmode >> 4 & 1 else b_second
        a = 0 if gate and cell.preaddinsel == "A" else _signed(a, 27)
        b = 0 if gate and cell.preaddinsel == "B" else _signed(b, 18)
        d = _signed(self.d if cell.dreg else pins["D"], 27) if inmode >> 2 & 1 else 0
        addend = b if cell.preaddinsel == "B" else a
        ad = _signed(d - addend if inmode >> 3 & 1 else d + addend, 27)
        added = self.ad if cell.adreg else ad
        product = 0
        if cell.use_mult != "NONE":
            product = (added if cell.amultsel == "AD" else a) * (
                _signed(added, 18) if cell.bmultsel == "AD" else b
            )
        m = self.m if cell.mreg else product
        c = self.c if cell.creg else pins["C"]
        total = self._alu(control, m, a_second << 18 | b_second, c, pins["PCIN"])
        outputs = {
            "P": self.p if cell.preg else total,
            "PCOUT": self.p if cell.preg else total,
            "ACOUT": a_second if cell.acascreg == cell.areg else self.a1,
            "BCOUT": b_second if cell.bcascreg == cell.breg else self.b1,
        }

        def register(old: int, new: int, reset: str, enable: str) -> int:
            return 0 if pins[reset] else new if pins[enable] else old

        return outputs, replace(
            self,
            a1=register(self.a1, a_in, "RSTA", "CEA1"),
            a2=register(self.a2, a_first, "RSTA", "CEA2"),
            b1=register(self.b1, b_in, "RSTB", "CEB1"),
            b2=register(self.b2, b_first, "RSTB", "CEB2"),
            c=register(self.c, pins["C"], "RSTC", "CEC"),
            d=register(self.d, pins["D"], "RSTD", "CED"),
            ad=register(self.ad, ad, "RSTD", "CEAD"),
            m=register(self.m, product, "RSTM", "CEM"),
            p=register(self.p, total, "RSTP", "CEP"),
            opmode=register(self.opmode, pins["OPMODE"], "RSTCTRL", "CECTRL"),
            alumode=register(self.alumode, pins["ALUMODE"], "RSTALUMODE", "CEALUMODE"),
            inmode=register(self.inmode, pins["INMODE"], "RSTINMODE", "CEINMODE"),
            carryin=register(self.carryin, pins["CARRYIN"], "RSTALLCARRYIN", "CECARRYIN"),
        )

    def _alu(self, control: dict[str, int], m: int, ab: int, c: int, pcin: int) -> int:
        """48 bits of the sum (ALUMODE 0000, 0001, 0010, 0011)."""
        mode = control["opmode"]
        multiplies = mode & 0b1111 == 0b0101
        x = [0, m if multiplies else None, self.p, ab][mode & 3]
        y = [0, 0 if multiplies else None, -1, c][mode >> 2 & 3]
        z = {0: 0, 1: pcin, 2: self.p, 3: c, 5: _signed(pcin, 48) >> 17, 6: _signed(self.p, 48) >> 17}.get(
            mode >> 4 & 7
        )  # fmt: skip
        w = [0, self.p, self.cell.rnd, c][mode >> 7]
        if x is None or y is None or z is None:
            raise ValueError(f"OPMODE {mode:09b} is not modelled")
        alumode = control["alumode"]
        if alumode > 3:
            raise ValueError(f"ALUMODE {alumode:04b} is not modelled")
        total = (~z if alumode & 1 else z) + w + x + y + control["carryin"]
        return (~total if alumode & 2 else total) & (1 << 48) - 1


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)
