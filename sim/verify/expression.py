# SPDX-License-Identifier: Apache-2.0
"""Expressions over the signals of a design: what a property is made of.

A small language of unsigned numbers (``signed(e)`` reads one as two's complement). Nothing wraps by
accident: ``+`` is one bit wider than its operands, ``*`` as wide as both together; ``-``, ``~`` and
shifts keep the width of their left side and wrap; a slice of anything cuts it: ``(past(n) + 1)[3:0]``.
A property is data: it is parsed into these nodes and printed from them, never pasted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from designs.errors import DesignError

__all__ = [
    "Apply",
    "Constant",
    "Expression",
    "Parser",
    "PropertyError",
    "Signal",
    "Slice",
    "history",
    "nodes",
    "parse_expression",
    "past",
    "signals",
]

MAX_CHARACTERS, MAX_NODES, MAX_NESTING, MAX_PAST, MAX_WIDTH = 600, 160, 40, 16, 1024


class PropertyError(DesignError):
    """A property that is not in the language; one line with the place."""


@dataclass(frozen=True)
class Signal:
    """A signal of the design, by its hierarchical name."""

    name: str
    width: int

    is_signed = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Constant:
    """A number that is not negative."""

    value: int
    width: int

    is_signed = False

    def __str__(self) -> str:
        plain = self.width == max(1, self.value.bit_length()) and self.value < 1 << 16
        return str(self.value) if plain else f"{self.width}'h{self.value:x}"


@dataclass(frozen=True)
class Slice:
    """Bits ``high`` down to ``low`` of an expression."""

    of: Expression
    high: int
    low: int

    is_signed = False

    @property
    def width(self) -> int:
        return self.high - self.low + 1

    @cached_property
    def _text(self) -> str:
        inner = str(self.of) if isinstance(self.of, Signal) else f"({self.of})"
        return f"{inner}[{self.high}]" if self.width == 1 else f"{inner}[{self.high}:{self.low}]"

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True)
class Apply:
    """An operator or function of expressions.

    Parameters
    ----------
    operator : as it is written; ``{}`` joins, ``?:`` chooses, unary ones are ``u!`` ``u~`` ``u-``
        ``u&`` ``u|`` ``u^``.
    arguments : what it is applied to.
    amount : cycles of ``past``; otherwise 0.
    """

    operator: str
    arguments: tuple[Expression, ...]
    width: int
    is_signed: bool = False
    amount: int = 0

    @cached_property
    def _text(self) -> str:
        parts = [_inner(a) for a in self.arguments]
        match self.operator:
            case "?:":
                return "{} ? {} : {}".format(*parts)
            case "{}":
                return "{" + ", ".join(map(str, self.arguments)) + "}"
            case "past":
                depth = f", {self.amount}" if self.amount > 1 else ""
                return f"past({self.arguments[0]}{depth})"
            case name if name[0] == "u":
                return f"{name[1:]}{parts[0]}"
            case name if name.isalnum():
                return f"{name}({', '.join(map(str, self.arguments))})"
            case name:
                return f"{parts[0]} {name} {parts[1]}"

    def __str__(self) -> str:
        return self._text


Expression = Signal | Constant | Slice | Apply


def _inner(e: Expression) -> str:
    compound = isinstance(e, Apply) and not (
        e.operator == "{}" or (e.operator.isalnum() and e.operator[0] != "u")
    )
    return f"({e})" if compound else str(e)


def children(e: Expression) -> tuple[Expression, ...]:
    """What an expression is made of."""
    return e.arguments if isinstance(e, Apply) else (e.of,) if isinstance(e, Slice) else ()


def nodes(e: Expression) -> Iterator[Expression]:
    """Every node, the whole first."""
    waiting = [e]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))


def signals(e: Expression) -> set[str]:
    """Names of the signals in an expression."""
    return {node.name for node in nodes(e) if isinstance(node, Signal)}


def history(e: Expression) -> int:
    """How many cycles back an expression looks."""
    back = max((history(child) for child in children(e)), default=0)
    if isinstance(e, Apply):
        back += e.amount + (e.operator in _EDGES)
    return back


# ---- Building ---------------------------------------------------------------------------------------

_EDGES = ("rose", "fell", "stable", "changed")
_COMPARE = ("==", "!=", "<", "<=", ">", ">=")
_FUNCTIONS = (*_EDGES, "onehot", "onehot0", "countones", "signed", "past")


def constant(value: int, width: int | None = None) -> Constant:
    """A number, as wide as it needs to be."""
    return Constant(value, width or max(1, value.bit_length()))


def past(e: Expression, cycles: int = 1) -> Expression:
    """The value of an expression some cycles ago."""
    if cycles == 0 or isinstance(e, Constant):
        return e
    if isinstance(e, Apply) and e.operator == "past":
        return past(e.arguments[0], cycles + e.amount)
    return Apply("past", (e,), e.width, e.is_signed, cycles)


def unary(operator: str, e: Expression) -> Expression:
    """``!``, ``~``, ``-``, or ``&``, ``|``, ``^`` over all bits."""
    if operator in "~-":
        return Apply(f"u{operator}", (e,), e.width, e.is_signed)
    return Apply(f"u{operator}", (e,), 1)


def binary(operator: str, a: Expression, b: Expression) -> Expression:
    """Two expressions joined; both signed or neither (a plain constant takes the other's side)."""
    if operator in ("&&", "||"):
        return Apply(operator, (a, b), 1)
    if operator in ("<<", ">>"):
        return Apply(operator, (a, b), a.width, a.is_signed)
    a, b = _same_side(a, b), _same_side(b, a)
    if a.is_signed != b.is_signed:
        raise PropertyError(f"{a} {operator} {b}: one side is signed, the other is not")
    wide = max(a.width, b.width)
    width = {"+": wide + 1, "*": a.width + b.width}.get(operator, wide)
    if operator in _COMPARE:
        return Apply(operator, (a, b), 1)
    return Apply(operator, (a, b), width, a.is_signed)


def _same_side(e: Expression, other: Expression) -> Expression:
    """A constant beside a signed number is that number: one bit more keeps it positive."""
    if other.is_signed and isinstance(e, Constant):
        return Apply("signed", (Constant(e.value, e.width + 1),), e.width + 1, True)
    if (
        other.is_signed and isinstance(e, Apply) and e.operator == "u-"
        and isinstance(e.arguments[0], Constant)
    ):  # fmt: skip
        wide = Constant(e.arguments[0].value, e.width + 1)
        return Apply("signed", (unary("-", wide),), e.width + 1, True)
    return e


def function(name: str, arguments: Sequence[Expression]) -> Expression:
    """A function of one argument, or ``past`` of one or two."""
    e = arguments[0]
    if name == "past":
        cycles = arguments[1] if len(arguments) == 2 else Constant(1, 1)
        if len(arguments) > 2 or not isinstance(cycles, Constant):
            raise PropertyError("past takes an expression and a number of cycles")
        if not 1 <= cycles.value <= MAX_PAST:
            raise PropertyError(f"past looks 1 to {MAX_PAST} cycles back, not {cycles.value}")
        return past(e, cycles.value)
    if len(arguments) != 1:
        raise PropertyError(f"{name} takes one argument, not {len(arguments)}")
    if name == "signed":
        return Apply(name, (e,), e.width, True)
    return Apply(name, (e,), e.width.bit_length() if name == "countones" else 1)


def conjunction(parts: Sequence[Expression]) -> Expression:
    """All of them."""
    whole = parts[0]
    for part in parts[1:]:
        whole = binary("&&", whole, part)
    return whole


# ---- Reading ----------------------------------------------------------------------------------------

_NAME = r"[A-Za-z_][A-Za-z0-9_$]*"
_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<number>\d+'[bodhBODH][0-9a-fA-F_]+|\d[\d_]*)
    |(?P<name>\$?{_NAME}(?:(?:\[\d+\])*\.{_NAME})*)
    |(?P<mark>\|->|\|=>|\#\#|&&|\|\||==|!=|<=|>=|<<|>>|[-!~&|^+*<>?:{{}}()\[\],])
    )""",
    re.VERBOSE,
)
_PRECEDENCE = {
    "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7,
    "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10,
}  # fmt: skip


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


class Parser:
    """Reads a text token by token; every error names the column.

    Parameters
    ----------
    text : at most ``MAX_CHARACTERS`` long.
    table : width by name of the signals that may be used.
    """

    def __init__(self, text: str, table: Mapping[str, int]) -> None:
        if len(text) > MAX_CHARACTERS:
            raise PropertyError(
                f"a property has at most {MAX_CHARACTERS} characters, not {len(text)}"
            )
        self._text, self._table, self._at, self._nesting, self._nodes = text, table, 0, 0, 0
        self._tokens = list(self._scan())

    def _scan(self) -> Iterator[_Token]:
        at, text = 0, self._text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise PropertyError(
                    f"column {at + 1}: {text[at : at + 12]!r} is not in the language"
                )
            kind = found.lastgroup or ""
            yield _Token(kind, found[kind], found.start(kind) + 1)
            at = found.end()
        yield _Token("end", "", len(text) + 1)

    @property
    def token(self) -> _Token:
        """The next token."""
        return self._tokens[self._at]

    def error(self, message: str) -> PropertyError:
        """An error at the next token."""
        return PropertyError(f"column {self.token.column}: {message}")

    def accept(self, *texts: str) -> str | None:
        """Take the next token if it is one of these."""
        if self.token.kind == "mark" and self.token.text in texts:
            self._at += 1
            return self._tokens[self._at - 1].text
        return None

    def expect(self, text: str) -> None:
        """Take the next token, which must be this one."""
        if not self.accept(text):
            raise self.error(f"expected {text!r}, not {self.token.text or 'the end'!r}")

    def word(self) -> str:
        """Take the next token, whatever it is."""
        self._at += 1
        return self._tokens[self._at - 1].text

    def finish(self) -> None:
        """Nothing may follow."""
        if self.token.kind != "end":
            raise self.error(f"expected the end, not {self.token.text!r}")

    def integer(self) -> int:
        """A plain number."""
        if self.token.kind != "number" or not self.token.text.isdecimal():
            raise self.error(f"expected a number, not {self.token.text or 'the end'!r}")
        self._at += 1
        return int(self._tokens[self._at - 1].text[:12])

    def expression(self) -> Expression:
        """An expression with ``?:``."""
        condition = self._binary(1)
        if not self.accept("?"):
            return condition
        first = self._deeper(self.expression)
        self.expect(":")
        second = self._deeper(self.expression)
        first, second = _same_side(first, second), _same_side(second, first)
        if first.is_signed != second.is_signed:
            raise self.error("one choice is signed, the other is not")
        width = max(first.width, second.width)
        return self._made(lambda: Apply("?:", (condition, first, second), width, first.is_signed))

    def _deeper(self, rule: Callable[[], Expression]) -> Expression:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self.error(f"nested deeper than {MAX_NESTING}")
        result = rule()
        self._nesting -= 1
        return result

    def _made(self, build: Callable[[], Expression]) -> Expression:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self.error(f"a property has at most {MAX_NODES} parts")
        try:
            made = build()
        except PropertyError as error:
            raise self.error(str(error)) from None
        if made.width > MAX_WIDTH:
            raise self.error(f"wider than {MAX_WIDTH} bits")
        return made

    def _binary(self, least: int) -> Expression:
        left = self._unary()
        while self.token.kind == "mark" and _PRECEDENCE.get(self.token.text, 0) >= least:
            operator = self.token.text
            self._at += 1
            level, first = _PRECEDENCE[operator] + 1, left
            right = self._deeper(lambda level=level: self._binary(level))
            left = self._made(lambda o=operator, a=first, b=right: binary(o, a, b))
        return left

    def _unary(self) -> Expression:
        operator = self.accept("!", "~", "-", "&", "|", "^")
        if operator is None:
            return self._selected(self._primary())
        inner = self._deeper(self._unary)
        return self._made(lambda: unary(operator, inner))

    def _selected(self, e: Expression) -> Expression:
        while self.accept("["):
            high = low = self.integer()
            if self.accept(":"):
                low = self.integer()
            self.expect("]")
            if not low <= high < e.width:
                raise self.error(f"[{high}:{low}] is outside the {e.width} bits of {e}")
            if (low, high) != (0, e.width - 1) or e.is_signed:
                inner = e
                e = self._made(lambda a=inner, h=high, w=low: Slice(a, h, w))
        return e

    def _primary(self) -> Expression:
        token = self.token
        if token.kind == "number":
            self._at += 1
            return self._made(lambda: _number(token.text))
        if token.kind == "name":
            self._at += 1
            if self.accept("("):
                return self._call(token)
            if token.text not in self._table:
                self._at -= 1
                raise self.error(
                    f"there is no signal {token.text}{_nearest(token.text, self._table)}"
                )
            return self._made(lambda: Signal(token.text, self._table[token.text]))
        if self.accept("("):
            inner = self._deeper(self.expression)
            self.expect(")")
            return inner
        if self.accept("{"):
            parts = self._list("}")
            return self._made(lambda: Apply("{}", tuple(parts), sum(p.width for p in parts)))
        raise self.error(f"expected a signal, a number or '(', not {token.text or 'the end'!r}")

    def _call(self, token: _Token) -> Expression:
        name = token.text.removeprefix("$")
        if name not in _FUNCTIONS:
            raise PropertyError(
                f"column {token.column}: there is no function {token.text}; there are {', '.join(_FUNCTIONS)}"
            )
        arguments = self._list(")")
        return self._made(lambda: function(name, arguments))

    def _list(self, end: str) -> list[Expression]:
        parts = [self._deeper(self.expression)]
        while self.accept(","):
            parts.append(self._deeper(self.expression))
        self.expect(end)
        return parts

    def arguments(self) -> list[Expression]:
        """A list in parentheses."""
        self.expect("(")
        return self._list(")")


def _number(text: str) -> Constant:
    if "'" not in text:
        value = int(text.replace("_", ""))
        if value.bit_length() > 64:
            raise PropertyError(f"{text} has more than 64 bits")
        return constant(value)
    size, digits = text.split("'")
    base = {"b": 2, "o": 8, "d": 10, "h": 16}[digits[0].lower()]
    try:
        value = int(digits[1:].replace("_", ""), base)
    except ValueError:
        raise PropertyError(f"{text} is not a number of base {base}") from None
    if len(size) > 4 or not 1 <= int(size) <= MAX_WIDTH or value.bit_length() > int(size):
        raise PropertyError(f"{text} does not fit its width")
    return Constant(value, int(size))


def _nearest(name: str, table: Mapping[str, int]) -> str:
    import difflib

    found = difflib.get_close_matches(name, table, 1)
    return f"; is it {found[0]}?" if found else ""


def parse_expression(text: str, table: Mapping[str, int]) -> Expression:
    """Read one expression over the signals of ``table`` (width by name).

    Raises
    ------
    PropertyError
        With the column, if it is not in the language or names an unknown signal.
    """
    parser = Parser(text, table)
    result = parser.expression()
    parser.finish()
    return result
