# SPDX-License-Identifier: Apache-2.0
"""What every piece of hardware is: a component that is emitted once and instantiated by name.

Amaranth elaborates each instance of a submodule anew. A :class:`Unit` avoids that: its parent calls
:func:`place`, which makes the child a submodule in Amaranth's own simulator, and an ``Instance`` of the
child's Verilog module while a :class:`Collector` is active (emission). A unit is unique by its class and
parameters, so the collector elaborates each unique one once, however often it occurs.
"""

import inspect
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.templates import environment

Placed = TypeVar("Placed", bound="Unit")

__all__ = ["Collector", "TemplateUnit", "Unit", "place"]

_collector: ContextVar["Collector | None"] = ContextVar("collector", default=None)


class Unit(wiring.Component):
    """A component with a readable, deterministic module name.

    Parameters
    ----------
    signature : as of ``wiring.Component``
    key : the parameters that make the unit unique, in the order in which they appear in the module's name,
        e.g. ``{"t": 4, "r": 8}`` gives ``tree_array_t4_r8``.
    """

    if TYPE_CHECKING:  # the members of a signature become attributes

        def __getattr__(self, name: str) -> Any: ...

    shared: ClassVar[bool] = False
    """Occurs often: a simulator compiles its code once instead of once for each instance."""

    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, src_loc_at: int = 0, **kwargs: Any):
        made: Any = super().__new__
        unit = made(cls, *args, src_loc_at=src_loc_at + 1, **kwargs)
        unit._given = args, kwargs
        return unit

    def __init__(self, signature: Any, key: dict[str, int | str]) -> None:
        super().__init__(signature)
        self._key = dict(key)

    @property
    def key(self) -> dict[str, int | str]:
        """The parameters that make this unit unique."""
        return dict(self._key)

    @property
    def origin(self) -> dict[str, Any] | None:
        """What this unit is made by: its class as ``unit`` and the constructor's ``arguments``; plain values.

        Whoever gets the Verilog can so find what it must equal. None if an argument is not a number, a
        text, a truth or None.
        """
        args, kwargs = self._given
        signature = inspect.signature(type(self).__init__)
        bound = signature.bind(self, *args, **kwargs).arguments
        bound.pop("self")
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                bound |= bound.pop(name, {})
        if not all(value is None or isinstance(value, int | str) for value in bound.values()):
            return None
        return {"unit": f"{type(self).__module__}.{type(self).__qualname__}", "arguments": bound}

    @property
    def module_name(self) -> str:
        """Name of the Verilog module."""
        name = "".join("_" + c.lower() if c.isupper() else c for c in type(self).__name__).lstrip(
            "_"
        )
        return "_".join([name, *(f"{k}{v}" for k, v in self._key.items())])

    def ports(self) -> list[tuple[str, Value, bool]]:
        """``(name, value, is_input)`` of every port, flattened as Amaranth's back end names them."""
        found = []
        for path, member, value in self.signature.flatten(self):
            name, value = "__".join(str(p) for p in path), Value.cast(value)
            if len(value):  # Verilog has no ports of width 0
                found.append((name, value, member.flow == In))
        return found

    def parts(self) -> "list[Unit]":
        """Units that a template instantiates by itself; Amaranth units place theirs."""
        return []


class TemplateUnit(Unit):
    """A unit whose body is a SystemVerilog template: one file, one module, ports as the signature says.

    Subclasses set ``template`` (a path below ``hw/``) and define :meth:`context`. The template receives the
    context and ``module``, the name. Clock and reset are the ports ``clk`` and ``rst`` (synchronous, active
    high).
    """

    template: str = ""

    def context(self) -> dict[str, Any]:
        """What the template may use."""
        raise NotImplementedError(f"{type(self).__name__} must say what its template uses")

    def render(self) -> str:
        """The module's SystemVerilog."""
        return (
            environment(Path(__file__).parent)
            .get_template(self.template)
            .render(module=self.module_name, **self.context())
        )

    def elaborate(self, platform: Any) -> Elaboratable:
        raise TypeError(
            f"{type(self).__name__} is a SystemVerilog template: simulate it through Verilator"
        )


class Collector:
    """Units met while emitting: each unique one once, and how often each parent instantiates each child."""

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        self.children: dict[str, Counter[str]] = {}
        self._parent: str | None = None

    def add(self, unit: Unit) -> None:
        """Remember a unit; one name must always mean the same class."""
        known = self.units.setdefault(unit.module_name, unit)
        if type(known) is not type(unit) or known.key != unit.key:
            raise ValueError(f"Module name {unit.module_name!r} is taken by {known!r} and {unit!r}")
        if self._parent is not None:
            self.children.setdefault(self._parent, Counter())[unit.module_name] += 1

    @contextmanager
    def within(self, parent: Unit):
        """Children placed inside this context belong to ``parent``."""
        token, before = _collector.set(self), self._parent
        self._parent = parent.module_name
        self.children.setdefault(self._parent, Counter())
        try:
            yield self
        finally:
            self._parent = before
            _collector.reset(token)


def place(m: Module, name: str, unit: Placed) -> Placed:
    """Put ``unit`` into ``m`` under ``name`` and return it; its members are wired as usual."""
    collector = _collector.get()
    if collector is None:
        m.submodules[name] = unit  # pyright: ignore[reportArgumentType]
        return unit
    collector.add(unit)
    ports: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
    for port, value, is_input in unit.ports():
        ports[f"{'i' if is_input else 'o'}_{port}"] = value
    m.submodules[name] = Instance(unit.module_name, **ports)
    setattr(unit, "_MustUse__used", True)  # noqa: B010 (a mangled name): its parent uses it by name; the collector elaborates it
    return unit
