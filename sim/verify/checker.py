# SPDX-License-Identifier: Apache-2.0
"""The checker: a Verilog module that watches a design's signals and says which property is violated.

Every node of an expression is a wire of its own with its width written out, so that no tool's rules
for the width of an expression matter; both yosys and Verilator read it. ``past`` is a register.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sim.verify.evaluate import AFTER_RESET
from sim.verify.expression import Apply, Constant, Expression, Signal, Slice
from sim.verify.expression import past as make_past
from sim.verify.properties import Monitor, Property, Temporal

__all__ = ["MODULE", "Checker", "start_module", "write_checker"]

MODULE = "hwgen_checker"


@dataclass(frozen=True)
class Checker:
    """A checker and how it is connected.

    Parameters
    ----------
    text : Verilog of the module ``hwgen_checker``: ports ``clk``, ``rst`` (1 in reset), ``pick``, those of
        ``ports``, and the outputs ``bad`` and ``hit`` (a bit for each property) and ``env`` (the assumptions
        held so far). ``bad`` says nothing of what the assumptions excuse.
    ports : (port, width, signal of the design).
    properties : bit ``i`` of ``bad`` is of ``properties[i]``.
    """

    text: str
    ports: tuple[tuple[str, int, str], ...]
    properties: tuple[Property, ...]


@dataclass
class _Writer:
    """Collects declarations; equal expressions share a wire."""

    lines: list[str] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    names: dict[Expression, str] = field(default_factory=dict)
    ports: dict[str, tuple[str, int]] = field(default_factory=dict)

    def wire(self, width: int, value: str) -> str:
        name = f"n{len(self.lines)}"
        self.lines.append(f"  wire [{width - 1}:0] {name} = {value};")
        return name

    def register(self, width: int, value: str) -> str:
        name = f"n{len(self.lines)}"
        self.lines.append(f"  reg [{width - 1}:0] {name};")
        self.updates.append(f"    {name} <= {value};")
        return name

    def port(self, e: Signal) -> str:
        if e.name == AFTER_RESET:
            return "after_reset"
        if e.name not in self.ports:
            self.ports[e.name] = (f"s{len(self.ports)}", e.width)
        return self.ports[e.name][0]

    def name(self, e: Expression) -> str:
        """The wire that holds an expression."""
        if e not in self.names:
            self.names[e] = self._made(e)
        return self.names[e]

    def extended(self, e: Expression, width: int) -> str:
        name, more = self.name(e), width - e.width
        if more <= 0:
            return name
        fill = f"{name}[{e.width - 1}]" if e.is_signed else "1'b0"
        return self.wire(width, f"{{{{{more}{{{fill}}}}}, {name}}}")

    def truth(self, e: Expression) -> str:
        return self.name(e) if e.width == 1 else self.wire(1, f"|{self.name(e)}")

    def _made(self, e: Expression) -> str:
        if isinstance(e, Signal):
            return self.port(e)
        if isinstance(e, Constant):
            return self.wire(e.width, f"{e.width}'h{e.value:x}")
        if isinstance(e, Slice):
            return self.wire(e.width, f"{self.name(e.of)}[{e.high}:{e.low}]")
        return self._applied(e)

    def _applied(self, e: Apply) -> str:
        a = e.arguments[0]
        match e.operator:
            case "past":
                return self.register(e.width, self.name(make_past(a, e.amount - 1)))
            case "signed":
                return self.name(a)
            case "stable" | "changed":
                sign = "==" if e.operator == "stable" else "!="
                return self.wire(1, f"{self.name(a)} {sign} {self.name(make_past(a))}")
            case "rose" | "fell":
                now, before = f"{self.name(a)}[0]", f"{self.name(make_past(a))}[0]"
                now, before = (now, before) if e.operator == "rose" else (before, now)
                return self.wire(1, f"{now} & ~{before}")
            case "countones" | "onehot" | "onehot0":
                return self._ones(e)
            case "u!":
                return self.wire(1, f"~|{self.name(a)}")
            case "u~" | "u-" | "u&" | "u|" | "u^":
                return self.wire(e.width, f"{e.operator[1]}{self.name(a)}")
            case "{}":
                return self.wire(e.width, f"{{{', '.join(map(self.name, e.arguments))}}}")
            case "?:":
                first, second = (self.extended(b, e.width) for b in e.arguments[1:])
                return self.wire(e.width, f"{self.truth(a)} ? {first} : {second}")
            case "&&" | "||":
                b = self.truth(e.arguments[1])
                return self.wire(1, f"{self.truth(a)} {e.operator[0]} {b}")
            case "<<" | ">>":
                return self._shifted(e)
            case _:
                return self._binary(e)

    def _ones(self, e: Apply) -> str:
        a = e.arguments[0]
        width = a.width.bit_length()
        pad = f"{{{width - 1}{{1'b0}}}}, " if width > 1 else ""
        name = self.name(a)
        total = self.wire(width, " + ".join(f"{{{pad}{name}[{k}]}}" for k in range(a.width)))
        if e.operator == "countones":
            return total
        return self.wire(1, f"{total} {'==' if e.operator == 'onehot' else '<='} {width}'h1")

    def _shifted(self, e: Apply) -> str:
        a, amount = e.arguments
        operator = f"{e.operator}>" if e.is_signed and e.operator == ">>" else e.operator
        left = f"$signed({self.name(a)})" if e.is_signed else self.name(a)
        return self.wire(e.width, f"{left} {operator} {self.name(amount)}")

    def _binary(self, e: Apply) -> str:
        a, b = e.arguments
        if e.operator == "*":  # as a designer writes it: provers see the same multiplier
            factors = [f"$signed({self.name(x)})" if x.is_signed else self.name(x) for x in (a, b)]
            return self.wire(e.width, " * ".join(factors))
        wide = max(e.width, a.width, b.width)
        left, right = self.extended(a, wide), self.extended(b, wide)
        if a.is_signed and e.operator in ("<", "<=", ">", ">="):
            left, right = f"$signed({left})", f"$signed({right})"
        return self.wire(e.width, f"{left} {e.operator} {right}")


def write_checker(properties: Sequence[Property], edge: int = 1) -> Checker:
    """The checker of some properties; those of kind ``assume`` excuse violations from then on.

    ``edge`` : of the clock, 1 rising, 0 falling.
    """
    writer = _Writer()
    judged = [_judged(item, index, writer) for index, item in enumerate(properties)]
    ports = tuple((port, width, name) for name, (port, width) in writer.ports.items())
    deepest = max((item.body.history for item in properties), default=0)
    bits = max(1, deepest.bit_length())
    count = max(1, len(properties))
    broken = (
        " | ".join(f"wrong[{k}]" for k, item in enumerate(properties) if item.kind == "assume")
        or "1'b0"
    )
    excused = "".join("0" if i.kind == "assume" else "1" for i in reversed(properties)) or "0"
    head = ["clk", "rst", "pick", *(port for port, _, _ in ports), "bad", "hit", "env"]
    lines = [
        f"module {MODULE}({', '.join(head)});",
        "  input clk, rst, pick;",
        *(f"  input [{width - 1}:0] {port};" for port, width, _ in ports),
        f"  output [{count - 1}:0] bad, hit;",
        "  output env;",
        "  // Cycles since reset, up to the deepest history that a property has.",
        f"  reg [{bits - 1}:0] age = {bits}'h0;",
        "  reg begun = 1'b0;",
        "  wire after_reset = ~rst & ~begun;",
        "  always @(posedge clk) begin",
        "    begun <= ~rst;",
        f"    age <= rst ? {bits}'h0 : age == {bits}'h{deepest:x} ? age : age + {bits}'h1;",
        "  end",
        *writer.lines,
        "  always @(posedge clk) begin",
        *(writer.updates or ["    begin end"]),
        "  end",
        f"  wire [{count - 1}:0] wrong, met;",
        *(line for lines in judged for line in lines),
        f"  assign hit = met & {{{count}{{env}}}};",
        *([] if properties else ["  assign wrong = 1'b0;", "  assign met = 1'b0;"]),
        "  reg held = 1'b1;",
        f"  assign env = held & ~({broken});",
        "  always @(posedge clk) held <= env;",
        f"  assign bad = wrong & {{{count}{{env}}}} & {count}'b{excused};",
        "`ifdef HWGEN_ASSERT",
        "  always @(posedge clk) begin",
        *(
            f"    a{k}: assert (~bad[{k}]);"
            for k, item in enumerate(properties)
            if item.kind == "assert"
        ),
        "  end",
        "`endif",
        "endmodule",
    ]
    text = "\n".join(lines) + "\n"
    if not edge:
        text = text.replace("posedge", "negedge")
    return Checker(text, ports, tuple(properties))


def _judged(item: Property, index: int, writer: _Writer) -> list[str]:
    """Lines that drive bit ``index`` of ``wrong`` and ``hit``."""
    if isinstance(item.body, Monitor):
        return _monitor(item.body, index, writer)
    return _temporal(item, item.body, index, writer)


def _temporal(item: Property, body: Temporal, index: int, writer: _Writer) -> list[str]:
    hit, bad = writer.truth(body.hit), writer.truth(body.bad)
    looked = f"~rst & (age >= {body.history})" if body.history else "~rst"
    if item.kind == "cover":
        met = f"{hit} & ~{bad}" if body.steps else f"~{bad}"
        return [f"  assign wrong[{index}] = 1'b0;", f"  assign met[{index}] = {looked} & {met};"]
    return [
        f"  // {item.name}",
        f"  assign wrong[{index}] = {looked} & {bad};",
        f"  assign met[{index}] = {looked} & {hit};",
    ]


def _monitor(body: Monitor, index: int, writer: _Writer) -> list[str]:
    push, pop = writer.truth(body.push), writer.truth(body.pop)
    bits, p = body.capacity.bit_length(), f"m{index}_"
    one, none = f"{bits}'h1", f"{bits}'h0"
    lines = [
        f"  reg [{bits - 1}:0] {p}inside = {none};",
        f"  wire {p}empty = {p}inside == {none};",
        f"  wire {p}full = {p}inside == {bits}'h{body.capacity:x};",
        f"  wire {p}passes = {push} & {pop} & {p}empty;",
        "  always @(posedge clk)",
        f"    if (rst) {p}inside <= {none};",
        f"    else if ({push} & ~{pop} & ~{p}full) {p}inside <= {p}inside + {one};",
        f"    else if ({pop} & ~{push} & ~{p}empty) {p}inside <= {p}inside - {one};",
        f"  wire {p}count = ({pop} & ~{push} & {p}empty) | ({push} & ~{pop} & {p}full);",
    ]
    if body.rule == "conserved":
        return [
            *lines,
            f"  assign wrong[{index}] = ~rst & {p}count;",
            f"  assign met[{index}] = ~rst & {pop};",
        ]
    enters, leaves = writer.name(body.arguments[1]), writer.name(body.arguments[3])
    width = body.arguments[1].width
    return [
        *lines,
        f"  reg {p}tracking = 1'b0;",
        f"  reg [{bits - 1}:0] {p}ahead = {none};",
        f"  reg [{width - 1}:0] {p}token;",
        f"  wire {p}due = {pop} & {p}tracking & {p}ahead == {none};",
        "  always @(posedge clk)",
        f"    if (rst) {p}tracking <= 1'b0;",
        f"    else if ({p}due) {p}tracking <= 1'b0;",
        f"    else if ({pop} & {p}tracking) {p}ahead <= {p}ahead - {one};",
        f"    else if ({push} & ~{p}tracking & ~{p}passes & pick) begin",
        f"      {p}tracking <= 1'b1;",
        f"      {p}token <= {enters};",
        f"      {p}ahead <= {pop} ? {p}inside - {one} : {p}inside;",
        "    end",
        f"  assign wrong[{index}] = ~rst & ({p}count | ({p}passes & {enters} != {leaves})",
        f"    | ({p}due & {p}token != {leaves}));",
        f"  assign met[{index}] = ~rst & ({p}passes | {p}due);",
    ]


def start_module(edge: int) -> str:
    """Verilog of what resets a design in a proof: in the first cycle, and ``again``."""
    return (
        "module hwgen_start(input clk, input again, output active);\n"
        "  reg begun = 1'b0;\n"
        f"  always @({'posedge' if edge else 'negedge'} clk) begun <= 1'b1;\n"
        "  assign active = ~begun | again;\n"
        "endmodule\n"
    )
