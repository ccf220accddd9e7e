# SPDX-License-Identifier: Apache-2.0
"""An engine alone: its RTL, and what one must know to use it, without a model around it."""

from __future__ import annotations

import inspect
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import UnusedElaboratable

from designs.errors import DesignError
from generators import manifest
from generators.files import check_out, new_folder
from generators.verilog import Emission, emit
from hw.arrays import ENGINES, Engine, accumulator_bits, make_engine, parse_engine
from hw.arrays.chain import ChainArray

__all__ = ["FACTS", "LONGEST", "EngineRequest", "load_engine", "write_engine"]

FACTS = "engine.json"
"""What a folder of an engine says about it."""

LONGEST = 4096
"""Elements of a reduction, if nobody says how many: that of the feed-forward part of gpt2-medium."""


@dataclass(frozen=True)
class EngineRequest:
    """An engine as a user asks for it.

    Attributes
    ----------
    spec : ``array:pe[.encoding][:N:M]:TxRxO``
    x_bits, w_bits : widths of activations and weights
    k : the longest reduction that the accumulators hold exactly; None: `LONGEST`, unless `acc_bits` is given
    acc_bits : their width; None: what k needs
    adder, group : of the carry-save elements, see `hw.arrays.engine.Engine`; None: the default
    dsp : what ``dsp_packed`` is made of, see there; None: the default
    share, accumulate, split, adjusted : of chains, see `hw.arrays.chain.ChainArray`; None: the default
    stages, registers, cut : pipelining, of arrays that take it (`hw.arrays.tree.TreeArray`); None: the default
    """

    spec: str
    x_bits: int = 8
    w_bits: int = 8
    k: int | None = None
    acc_bits: int | None = None
    adder: str | None = None
    group: int | None = None
    dsp: str | None = None
    share: int | None = None
    accumulate: str | None = None
    split: int | None = None
    adjusted: bool | None = None
    stages: int | None = None
    registers: str | None = None
    cut: int | None = None


OF_ALL = ("adder", "group", "dsp")
OF_CHAINS = ("share", "accumulate", "split", "adjusted")
PIPELINE = ("stages", "registers", "cut")


def write_engine(request: EngineRequest, out: Path) -> dict[str, Any]:
    """Write ``rtl/`` and ``engine.json`` below ``out``; what the latter says.

    Raises
    ------
    DesignError
        For an engine that does not exist, and for a folder that is not ours.
    """
    check_out(out)
    with warnings.catch_warnings():  # elaborated by name, not by Amaranth
        warnings.simplefilter("ignore", UnusedElaboratable)
        try:
            engine = _engine(request)
        except ValueError as error:
            raise DesignError(str(error)) from None
        emission = emit(engine)
    facts = _facts(engine, request, emission)
    with new_folder(out) as folder:
        (folder / "rtl").mkdir()
        for name, text in emission.files.values():
            (folder / "rtl" / name).write_text(text)
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        manifest.write(folder, manifest.fingerprint({"engine": asdict(request)}, {}))
    return facts


def load_engine(out: Path) -> Engine:
    """The engine whose RTL `write_engine` wrote below ``out``.

    Raises
    ------
    DesignError
        If the folder has none, or one of another version of hwgen.
    """
    path = out / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        engine = _engine(EngineRequest(**facts["request"]))
    except FileNotFoundError:
        raise DesignError(f"{out} has no {FACTS}: give a folder that hwgen engine wrote") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DesignError(
            f"{path} is not valid ({' '.join(str(error).split())}): write it again"
        ) from error
    if engine.module_name != facts["top"]:
        raise DesignError(f"{path} is of another version of hwgen: write it again")
    return engine


def _engine(request: EngineRequest) -> Engine:
    spec = parse_engine(request.spec)
    if spec.tokens is None or spec.reduce is None or spec.outputs is None:
        raise ValueError(f"engine {request.spec!r} needs a shape, e.g. {request.spec}:16x1x16")
    k = LONGEST if request.k is None else request.k
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k!r}")
    options: dict[str, Any] = {
        name: value
        for name in (*OF_ALL, *OF_CHAINS, *PIPELINE)
        if (value := getattr(request, name)) is not None
    }
    if spec.array != ChainArray.array and (
        wrong := [name for name in OF_CHAINS if name in options]
    ):
        raise ValueError(f"--{wrong[0]} is of {ChainArray.array}:dsp_packed, not of {spec.array}")
    for name in (name for name in PIPELINE if name in options):
        if not _takes(ENGINES[spec.array], name):
            arrays = ", ".join(array for array, cls in ENGINES.items() if _takes(cls, name))
            raise ValueError(f"--{name} is of the arrays {arrays}, not of {spec.array}")
    needed = accumulator_bits(max(k, spec.reduce), max(request.x_bits, 1), max(request.w_bits, 1))
    if request.acc_bits is not None and request.k is not None and request.acc_bits < needed:
        raise ValueError(f"acc_bits must be at least {needed} for k={k}, not {request.acc_bits!r}")
    return make_engine(
        spec.array, spec.pe, spec.sparsity,
        tokens=spec.tokens, reduce=spec.reduce, outputs=spec.outputs, encoding=spec.encoding,
        x_bits=request.x_bits, w_bits=request.w_bits, acc_bits=request.acc_bits or needed, **options,
    )  # fmt: skip


def _takes(cls: type[Engine], option: str) -> bool:
    """Whether a class, or one that it refines, has a parameter of this name."""
    makers = [base.__init__ for base in cls.__mro__ if "__init__" in vars(base)]
    return any(option in inspect.signature(maker).parameters for maker in makers)


def _facts(engine: Engine, request: EngineRequest, emission: Emission) -> dict[str, Any]:
    longest = (1 << (engine.acc_bits + 1 - engine.x_bits - engine.w_bits)) - 1
    chain: dict[str, Any] = {}
    if isinstance(engine, ChainArray):
        chain = {"chain": {name: getattr(engine, name) for name in ("n", "m", "taps", *OF_CHAINS)}}
        chain["chain"]["longest_beats"] = engine.longest
        chain["chain"]["outputs"] = {
            cuts: [engine.place(output, cuts) for output in range(engine.outputs * cuts)]
            for cuts in (1, 2, 4)
            if cuts <= engine.split
        }
    return {
        "version": 1,
        "engine": request.spec,
        "request": asdict(request),
        "top": emission.top,
        "x_bits": engine.x_bits,
        "w_bits": engine.w_bits,
        "acc_bits": engine.acc_bits,
        "longest_k": longest,
        **chain,
        "encoding": engine.encoding,
        "macs": engine.macs,
        "latency": engine.latency,
        "beat_elements": engine.reduce,
        "beat_cycles": {rows: engine.beat_cycles(rows) for rows in (1, engine.tokens)},
        "input": {
            name: {"offset": field.offset, "bits": field.width}
            for name, field in engine.i.payload.shape()
        },
        "output": {
            name: {"offset": field.offset, "bits": field.width}
            for name, field in engine.o.payload.shape()
        },
        "resources": asdict(engine.resources()),
        "modules": emission.modules(),
    }
