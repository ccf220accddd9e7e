# SPDX-License-Identifier: Apache-2.0
"""The command ``hwgen``: each subcommand parses, calls one function, and shows its result.

Exit codes: 0, 1 (a check failed), 2 (asked wrongly), 3 (a tool is missing or failed), 130
(interrupted). The wings are imported inside the commands: ``hwgen list`` does not wait for them.
"""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

import hwgen
from designs import catalogue
from designs.errors import DesignError
from designs.graph_machine import MachineOptions
from hwgen.console import Console, quantity
from hwgen.pim import note_run
from hwgen.show import (
    show_accuracy,
    show_asic,
    show_candidates,
    show_comparison,
    show_digits,
    show_engine,
    show_facts,
    show_grade,
    show_kernel,
    show_parts,
    show_perplexity,
    show_pim_run,
    show_placed,
    show_plan,
    show_report,
    show_runs,
    show_simulation,
    show_sweep,
    show_synthesis,
    show_verification,
)
from schedules.errors import ScheduleError

if TYPE_CHECKING:
    from generators.compress import Compression
    from generators.liberty import Liberty
    from schedules.optimal.solve import Effort

OK, CHECK_FAILED, ASKED_WRONGLY, TOOL_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

console = Console()
app = typer.Typer(
    help="Generates neural-network accelerators, and shows what they do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What a disk says that nobody's request is wrong about; writes to an open file name no file."""

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What Typer raises for a wrong option, in every version of it."""


def _set_verbose(value: bool) -> None:
    console.verbose |= value


def _set_quiet(value: bool) -> None:
    console.quiet |= value


def _show_version(value: bool) -> None:
    if value:
        console.say(f"hwgen {hwgen.__version__}")
        raise typer.Exit(OK)


Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", callback=_set_verbose, help="Show where an error came from."),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_set_quiet, help="Show results only, no steps."),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="A folder that hwgen build wrote.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Weights = Annotated[
    str, typer.Option(metavar="int8|int4", help="Bits of a weight; those of int4 share factors.")
]
Group = Annotated[
    int | None,
    typer.Option(
        metavar="32|64|128", help="Inputs that share a factor, of int4 weights.  [default: 64]"
    ),
]
SparsityOption = Annotated[
    str,
    typer.Option(
        "--sparsity",
        metavar="dense|N:M|blockB:PART",
        help="Keep N of M weights (2:4, 1:4, 2:8, 4:8, 8:16), or that part of blocks of B x B (block16:0.5), "
        "or both (2:4+block16:0.5).",
    ),
]
Share = Annotated[
    int | None,
    typer.Option(metavar="1|2", help="Outputs that keep weights of the same inputs.  [default: 1]"),
]
Tensors = Annotated[
    str,
    typer.Option(
        metavar="NAME=FORMAT,...",
        help="Matrices in other formats: lm_head=int8,h3.fc2=int4,q=int8:2:4.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        metavar="gptq|wanda|magnitude|keep",
        help="How weights are pruned and rounded; keep: the checkpoint is sparse.  [default: gptq]",
    ),
]


Budget = Annotated[
    float | None,
    typer.Option(
        metavar="BITS",
        help="Choose --tensors: matrices that gain most, to BITS a weight on average.",
    ),
]


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    pass


# What there is.


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="models|targets|engines|graphs|flows")],
    verbose: Verbose = False,
) -> None:
    """List the models, targets, engines and flows that can be named, or the task graphs to schedule."""
    lists = {
        "models": _list_models,
        "targets": _list_targets,
        "engines": _list_engines,
        "graphs": _list_graphs,
        "flows": _list_flows,
    }
    if what not in lists:
        raise DesignError(catalogue.unknown("list", what, list(lists)))
    lists[what]()


def _list_models() -> None:
    from designs.cards import list_models, load_model_card
    from designs.transformer import weight_shapes

    columns = ["model", "parameters", "layers", "width", "heads", "ffn", "vocabulary", "context"]
    rows: list[list[object]] = []
    for name in list_models():
        card = load_model_card(name)
        parameters = sum(math.prod(shape) for shape in weight_shapes(card).values())
        sizes = [card.layers, card.width, card.heads, card.ffn, card.vocabulary, card.context]
        weights = "come with hwgen" if card.checkpoint else "by --weights-from"
        rows.append([name, quantity(parameters), *sizes, weights])
    console.table([*columns, "weights"], rows)


def _list_targets() -> None:
    from designs import target

    columns = [
        "target",
        "multipliers",
        "kind",
        "MHz",
        "GB/s",
        "memory",
        "description",
        "unchecked figures",
    ]
    rows: list[list[object]] = []
    for name in target.names():
        card = target.load(name)
        rows.append(
            [
                name,
                card.dsp_usable,
                card.dsp_kind,
                card.clock_mhz,
                card.granted_gbps,
                _binary(card.memory.capacity_bytes),
                card.description,
                ", ".join(card.unverified) or "none",
            ]
        )
    console.table(columns, rows)


def _binary(size: int) -> str:
    """A capacity in the powers of two that memories come in."""
    unit = "GiB" if size >= 2**30 else "MiB"
    return f"{size / (2**30 if unit == 'GiB' else 2**20):g} {unit}"


def _list_engines() -> None:
    from hw.arrays import ENGINES, PE_ENCODINGS

    rows = [
        [
            f"{name}:{pe}",
            ", ".join(PE_ENCODINGS[pe]) or "-",
            ", ".join(engine.sparsities),
            (engine.__doc__ or "").split("\n")[0],
        ]
        for name, engine in sorted(ENGINES.items())
        for pe in engine.known_pes()
    ]
    console.table(["engine", "encodings", "sparsity", "description"], rows)
    console.say("a shape may follow: tree:mac:2x64x64 is 2 token rows, 64 reduction, 64 outputs")
    console.say("an encoding may follow the element: cube:opt1.csd")


def _list_graphs() -> None:
    from designs.graph import list_graphs, load_graph

    cards = [load_graph(name) for name in list_graphs()]
    console.table(
        ["graph", "tasks", "multiplications", "lanes", "what it is"],
        [[c.name, len(c.tasks), c.macs, c.machine.lanes, c.description] for c in cards],
    )


def _list_flows() -> None:
    from generators.export import FLOWS

    rows = [
        [f.name, f.description, ", ".join(f.option_names) or "-", f.next] for f in FLOWS.values()
    ]
    console.table(["flow", "what it writes", "options", "to run it"], rows)


@app.command()
def doctor(verbose: Verbose = False) -> None:
    """Show which tools were found, their versions, and how to get the missing ones."""
    from hwgen import doctor as examination

    tools = examination.examine()
    rows = [
        [
            tool.name,
            tool.version or ("missing" if tool.required else "absent"),
            tool.purpose if tool.required else f"{tool.purpose} (optional)",
            tool.where,
        ]
        for tool in tools
    ]
    console.table(["tool", "version", "what for", "where"], rows)
    for tool in tools:
        if not tool.found and not tool.required:
            console.say(f"{tool.name} is optional; to get it: {tool.remedy}")
    missing = examination.missing(tools)
    for tool in missing:
        console.error(f"{tool.name} is missing ({tool.where}): {tool.remedy}")
    if missing:
        raise typer.Exit(TOOL_FAILED)
    console.say("everything that hwgen needs is there")


# What hwgen does.


GraphTarget = Annotated[
    str | None,
    typer.Option("--target", "-t", help="Of an ONNX model: lanes and memory of this target."),
]
Lanes = Annotated[
    str | None, typer.Option(metavar="TxRxO", help="Multipliers: tokens x reduce x outputs.")
]
Grow = Annotated[str | None, typer.Option(help="Cores share tokens or outputs.")]
Cores = Annotated[int | None, typer.Option(help="Of --policy equal-cores.")]
SpadBytes = Annotated[int | None, typer.Option(metavar="BYTES", help="All scratchpads together.")]
BytesPerCycle = Annotated[
    int | None, typer.Option(metavar="BYTES", help="Of the memory in a cycle.")
]
Dtype = Annotated[str | None, typer.Option(help="Of all tensors: i8 or i16.")]
Dim = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SIZE", help="A symbolic dimension of an ONNX model; 1 if not given."
    ),
]


def _dtype(text: str | None) -> Literal["i8", "i16"] | None:
    if text is not None and text not in ("i8", "i16"):
        raise DesignError(f"--dtype must be i8 or i16, not {text}")
    return text


@app.command()
def build(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name of `hwgen list models`, a HF folder, or a GRAPH of `hwgen schedule`.",
        ),
    ],
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="See `hwgen list targets`.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write.  [default: build/MODEL-TARGET]"),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", "-e", help="See `hwgen list engines`.  [default: chosen]"),
    ] = None,
    weights_from: Annotated[
        Path | None,
        typer.Option(help="Hugging Face folder to quantise: config.json, model.safetensors."),
    ] = None,
    weights: Weights = "int8",
    group: Group = None,
    sparsity: SparsityOption = "dense",
    share: Share = None,
    method: Method = None,
    tensors: Tensors = "",
    budget: Budget = None,
    backend: Annotated[str, typer.Option(help="verilog, or hls: C++ of a kernel.")] = "verilog",
    style: Annotated[str, typer.Option(help="Of --backend hls: vitis or tapa.")] = "vitis",
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            help="Of a GRAPH: see `hwgen schedule`.  [default: sequential; with --backend hls optimal]",
        ),
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Of a GRAPH: this plan.yaml instead.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Of a GRAPH: search for a plan so long.")
    ] = 30.0,
    lanes: Lanes = None,
    grow: Grow = None,
    cores: Cores = None,
    spad_bytes: SpadBytes = None,
    bytes_per_cycle: BytesPerCycle = None,
    dtype: Dtype = None,
    dim: Dim = None,
    seed: Seed = 0,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write the accelerator of a model for a target: RTL, schedule, testbench, report."""
    options = MachineOptions(target, lanes, grow, cores, spad_bytes, bytes_per_cycle)
    if backend == "hls":
        _build_hls(
            model, out, options, weights_from, style=style, policy=policy or "optimal", plan=plan,
            effort=(seconds, seed), dtype=_dtype(dtype), dims=dim or (),
        )  # fmt: skip
        return
    if backend != "verilog":
        raise DesignError(catalogue.unknown("backend", backend, ["verilog", "hls"]))
    if _is_graph(model):
        _build_kernel(
            model, out, options, weights_from, policy=policy or "sequential", plan=plan, effort=(seconds, seed),
            dtype=_dtype(dtype), dims=dim or (),
        )  # fmt: skip
        return
    if target is None:
        raise DesignError("Missing option '--target' (hwgen list targets)")
    from generators.build import BuildRequest
    from generators.build import build as run
    from hwgen.joins import joins

    out = out or Path("build") / f"{Path(model).resolve().name}-{target}"
    result = run(
        BuildRequest(
            model=model,
            target=target,
            out=out,
            engine=engine,
            weights_from=weights_from,
            seed=seed,
            compression=_compression(weights, group, sparsity, share, method, tensors, budget),
            budget=budget,
        ),
        console,
        joins(),
    )
    if result.fresh:
        from generators.report import load

        show_facts(console, load(out))
        for warning in result.warnings:
            console.warn(warning)
    console.say(result.summary)


def _is_graph(name: str) -> bool:
    from designs.graph import list_graphs

    return name.endswith((".yaml", ".yml", ".onnx")) or "@" in name or name in list_graphs()


def _build_kernel(
    graph: str, out: Path | None, options: MachineOptions, weights_from: Path | None, *, policy: str,
    plan: Path | None, effort: tuple[float, int], dtype: Literal["i8", "i16"] | None, dims: Iterable[str],
) -> None:  # fmt: skip
    from hwgen import kernels
    from hwgen.graphs import open_graph
    from schedules.optimal.solve import Effort

    card, parameters = open_graph(graph, options, dtype=dtype, dims=dims)
    if weights_from is not None:
        parameters = kernels.load_parameters(weights_from)
    built = kernels.build(
        card,
        parameters,
        out or Path("build") / card.name,
        policy,
        plan,
        Effort(*effort),
        effort[1],
        console,
    )
    kept, given = built.lowered.scratchpad_bytes, card.machine.spad_bytes
    console.say(
        f"built {built.out}: cores {len(built.lowered.cores)}, modules {built.modules}, {built.cycles:,} cycles "
        f"predicted, {kept:,} bytes of scratchpads ({given:,} given)"
    )


def _build_hls(
    graph: str, out: Path | None, options: MachineOptions, weights_from: Path | None, *, style: str, policy: str,
    plan: Path | None, effort: tuple[float, int], dtype: Literal["i8", "i16"] | None, dims: Iterable[str],
) -> None:  # fmt: skip
    from hwgen.graphs import open_graph
    from hwgen.hls import HlsRequest
    from hwgen.hls import build as run
    from hwgen.kernels import load_parameters
    from schedules.optimal.solve import Effort

    is_card = not graph.endswith(
        ".onnx"
    )  # a card says its machine: the target is that of the scripts only
    machine = replace(options, target=None) if is_card else options
    card, parameters = open_graph(graph, machine, dtype=dtype, dims=dims)
    if weights_from is not None:
        parameters = load_parameters(weights_from)
    console.say(
        run(
            HlsRequest(
                card, parameters, out or Path("build") / f"{card.name}-hls", style, policy, plan, options.target,
                effort[1], Effort(*effort),
            ),
            console,
        )
    )  # fmt: skip


@app.command()
def sim(
    out: Out,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="Text to go on from.")
    ] = None,
    ids: Annotated[
        str | None, typer.Option(help="The prompt as token ids instead: 1,2,3.", metavar="IDS")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="To generate.")] = 64,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Run this many layers only, on random data.")
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Random weights and activations; needs --layers.")
    ] = False,
    past: Annotated[int, typer.Option(min=0, help="With --layers: tokens in the KV cache.")] = 0,
    length: Annotated[int, typer.Option(min=1, help="With --layers: tokens of the pass.")] = 1,
    seed: Seed = 0,
    waves: Annotated[Path | None, typer.Option(help="Write a waveform here (FST).")] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run a build's RTL, or its HLS C++, and compare every result with the golden model."""
    from sim.hls import is_hls
    from sim.kernel_run import is_kernel

    if is_hls(out):
        if prompt is not None or ids is not None or layers is not None or waves is not None:
            raise DesignError(f"{out} is HLS C++: it takes no --prompt, --ids, --layers or --waves")
        _simulate_hls(out)
        return
    if is_kernel(out):
        if prompt is not None or ids is not None or layers is not None:
            raise DesignError(f"{out} is a kernel: it takes no --prompt, --ids or --layers")
        _simulate_kernel(out, seed, waves)
        return
    if layers is None and random:
        raise DesignError("--random needs --layers")
    if layers is not None and (prompt is not None or ids is not None):
        raise DesignError("--layers runs on random data: it takes no --prompt and no --ids")
    if layers is None and (prompt is None) == (ids is None):
        raise DesignError("give one of --prompt, --ids or --layers")
    start: str | list[int] = prompt if prompt is not None else _token_ids(ids or "0")
    if layers is not None:
        from hwgen.layers import run_random_layers

        result = run_random_layers(
            out, layers, length=length, past=past, seed=seed, waves=waves, progress=console
        )
    else:
        from sim.run import generate

        pieces = [prompt or ""]  # shown with the first token, when no step's line can come between

        def show(token: int, text: str) -> None:
            console.text(pieces.pop() + text if pieces else text)

        result = generate(
            out, prompt=start, tokens=tokens, on_token=show, waves=waves, progress=console
        )
    show_simulation(console, result)
    if not result.identical:
        console.error(f"differs from the golden model: {result.mismatch}")
        raise typer.Exit(CHECK_FAILED)
    if "pim_multiplied" in result.counters:
        show_pim_run(console, note_run(out, result))
    console.say(f"identical to the golden model ({result.values:,} values compared)")


def _simulate_kernel(out: Path, seed: int, waves: Path | None) -> None:
    from hwgen import kernels

    result = kernels.simulate(out, seed, waves, console)
    show_kernel(console, result)
    if result.errors:
        console.error(f"{result.errors[0]} ({len(result.errors)} broken rules of the bus)")
        raise typer.Exit(CHECK_FAILED)
    if result.mismatch:
        console.error(f"differs from the golden model: {result.mismatch}")
        raise typer.Exit(CHECK_FAILED)
    console.say(f"identical to the golden model ({result.values:,} values compared)")


def _simulate_hls(out: Path) -> None:
    from sim.hls import simulate

    result = simulate(out, console)
    for line in result.lines:
        console.say(line)
    if not result.identical:
        console.error(
            f"{out}: {result.wrong:,} of {result.values:,} values differ from the golden model"
        )
        raise typer.Exit(CHECK_FAILED)
    console.say(f"identical to the golden model ({result.values:,} values compared)")


def _token_ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise DesignError(f"--ids must be whole numbers like 1,2,3, not {text!r}") from None


@app.command()
def perplexity(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|OUT", help="A name of `hwgen list models`, or a build.")
    ],
    weights_from: Annotated[
        Path | None, typer.Option(help="Hugging Face folder instead of the weights that ship.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Text file instead of the committed held-out text.")
    ] = None,
    weights: Weights = "int8",
    group: Group = None,
    sparsity: SparsityOption = "dense",
    share: Share = None,
    method: Method = None,
    tensors: Tensors = "",
    budget: Budget = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Compare the quantised model, and a compressed one, with the float one on a held-out text.

    Of a build, its own integers are measured, and its report shows them beside the float model's.
    """
    from generators.manifest import is_ours
    from hwgen.evaluate import build_accuracy
    from hwgen.evaluate import perplexity as run

    asked = _compression(weights, group, sparsity, share, method, tensors, budget)
    if is_ours(Path(model)):
        if asked is not None:
            raise DesignError(f"{model} is a build: its weights are as they are, without --weights")
        show_perplexity(
            console, build_accuracy(Path(model), console, weights_from=weights_from, text=text)
        )
        return
    found = run(
        model, console, weights_from=weights_from, text=text, compression=asked, budget=budget
    )
    show_perplexity(console, found)


def _compression(
    weights: str,
    group: int | None,
    sparsity: str,
    share: int | None,
    method: str | None,
    tensors: str,
    budget: float | None,
) -> Compression | None:
    """How weights are stored; None for plain int8."""
    from designs.weight_format import INT8, WeightFormat
    from generators.compress import METHODS, Compression

    form = WeightFormat.parse(weights, group, sparsity, share)
    if method is not None and method not in METHODS:
        raise DesignError(catalogue.unknown("method", method, list(METHODS)))
    if form == INT8:
        for option, value in (("--method", method), ("--tensors", tensors), ("--budget", budget)):
            if value not in (None, ""):
                raise DesignError(f"{option} is of --weights int4 and of --sparsity")
        return None
    others = Compression.parse_tensors(tensors, form)
    return Compression(form, method or next(iter(METHODS)), others)


@app.command()
def digits(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A name of `hwgen list models`, or a HF folder."),
    ],
    weights_from: Annotated[
        Path | None, typer.Option(help="Hugging Face folder instead of the weights that ship.")
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, max=1024, help="Rows of the recoded operand in lock step.")
    ] = 1,
    reduce: Annotated[
        int, typer.Option(min=1, max=4096, help="Elements of a row that the lanes of a PE share.")
    ] = 16,
    layers: Annotated[
        bool, typer.Option("--layers", help="Every layer by itself, not all of them together.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Count the non-zero digits of a model's integers, and the cycles of digit-serial PEs."""
    from generators.digit_statistics import Beat
    from hwgen.evaluate import digit_statistics as run

    found = run(model, Beat(rows, reduce), console, weights_from=weights_from)
    show_digits(console, found, layers)


@app.command()
def engine(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="ENGINE",
            help="array:pe[.encoding][:N:M]:TxRxO, e.g. cube:opt1:4x8x4, chain:dsp_packed:2:4:1x64x64",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    x_bits: Annotated[int, typer.Option(help="Bits of an activation, 2 to 16.")] = 8,
    w_bits: Annotated[int, typer.Option(help="Bits of a weight, 2 to 16.")] = 8,
    k: Annotated[
        int | None,
        typer.Option(help="Longest reduction that accumulators hold exactly.  [default: 4096]"),
    ] = None,
    acc_bits: Annotated[
        int | None, typer.Option(help="Bits of an accumulator, instead of what k needs.")
    ] = None,
    adder: Annotated[str | None, typer.Option(help="Adder that resolves carry-save sums.")] = None,
    group: Annotated[int | None, typer.Option(help="Bits between saved carries.")] = None,
    dsp: Annotated[
        str | None,
        typer.Option(metavar="dsp48e2|generic", help="What dsp_packed is made of: slices, or *."),
    ] = None,
    share: Annotated[
        int | None, typer.Option(help="Of chains: outputs that keep the same positions, 1 or 2.")
    ] = None,
    accumulate: Annotated[
        str | None,
        typer.Option(metavar="lut|dsp", help="Of chains: where sums grow from beat to beat."),
    ] = None,
    split: Annotated[
        int | None,
        typer.Option(help="Of chains: parts, 1, 2 or 4, into which a tile may cut them."),
    ] = None,
    adjusted: Annotated[
        bool | None,
        typer.Option("--adjusted", help="Of chains: weights of pairs come packed, see docs."),
    ] = None,
    stages: Annotated[
        int | None, typer.Option(help="Of mac: registers behind the products and their sum.")
    ] = None,
    registers: Annotated[
        str | None,
        typer.Option(metavar="behind|inside", help="Of tree:mac: where these are."),
    ] = None,
    cut: Annotated[
        int | None, typer.Option(help="Of carry-save elements: levels of adders between registers.")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write the RTL of an array of multipliers alone, in any width, and engine.json that describes it."""
    from generators.engine import EngineRequest, write_engine

    chain = {"share": share, "accumulate": accumulate, "split": split, "adjusted": adjusted}
    request = EngineRequest(
        spec, x_bits, w_bits, k, acc_bits, adder, group, dsp, **chain,
        stages=stages, registers=registers, cut=cut,
    )  # fmt: skip
    show_engine(console, out, write_engine(request, out))


@app.command()
def synth(
    out: Out,
    flow: Annotated[
        str, typer.Option(metavar="fpga|asic|ecp5", help="What to map to; ecp5: placed and routed.")
    ] = "fpga",
    liberty: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Cell library of --flow asic.")
    ] = None,
    pdk: Annotated[
        str | None,
        typer.Option(metavar="ihp-sg13g2|sky130", help="Its library, where ciel installed it."),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(metavar="NS[,NS...]", help="Clock targets of --flow asic."),
    ] = None,
    clock: Annotated[
        float | None, typer.Option(min=0.001, metavar="MHZ", help="Clock target of --flow ecp5.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Placements that --flow ecp5 tries.  [default: 1]")
    ] = None,
    limit: Annotated[
        float,
        typer.Option(
            min=1,
            help="Seconds for one module, which keeps its estimate after; of --flow asic, "
            "for one way to map it; of --flow ecp5, for one tool.",
        ),
    ] = 900,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Count a build's resources or standard cells, or place and route it, and write that into its report."""
    if flow not in ("fpga", "asic", "ecp5"):
        raise DesignError(catalogue.unknown("flow", flow, ["fpga", "asic", "ecp5"]))
    given = {
        "asic": {"--liberty": liberty, "--pdk": pdk, "--period": period},
        "ecp5": {"--clock": clock, "--seeds": seeds},
    }
    for other, options in given.items():
        for option, value in options.items():
            if value is not None and other != flow:
                raise DesignError(f"{option} is of --flow {other}")
    if flow == "ecp5":
        from generators.place import place

        tried = range(1, 1 + (seeds or 1))
        show_placed(console, out, place(out, console, seeds=tried, clock_mhz=clock, limit=limit))
        return
    if flow == "asic":
        from generators.asic_build import synthesise_asic

        periods, library = _periods(period), _library(liberty, pdk)
        result = synthesise_asic(out, library, console, limit=limit, periods_ns=periods)
        show_asic(console, result)
        return
    from generators.synth import synthesise

    show_synthesis(console, synthesise(out, console, limit))


def _library(liberty: Path | None, pdk: str | None) -> Liberty:
    from generators.liberty import Liberty
    from generators.pdk import find

    if liberty is not None and pdk is not None:
        raise DesignError("give --liberty or --pdk, not both")
    if liberty is not None:
        return Liberty.load(liberty)
    if pdk is not None:
        return Liberty.load(find(pdk))
    raise DesignError("--flow asic needs a library: --liberty FILE or --pdk ihp-sg13g2|sky130")


def _periods(text: str | None) -> list[float]:
    """Clock targets in ns."""
    try:
        periods = [float(part) for part in text.split(",")] if text is not None else []
    except ValueError:
        periods = [math.nan]
    if not all(0 < period < math.inf for period in periods):
        raise DesignError(f"--period {text} is not a list of ns such as 2.5,4")
    return periods


@app.command()
def verify(
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="OUT|FILE.v...", help="A folder that hwgen wrote, or Verilog files."
        ),
    ],
    top: Annotated[
        str | None, typer.Option(help="The module.  [default: the one that no other instantiates]")
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option(metavar="TEXT|FILE", help="What it is for; lines `assert: ...` are judged."),
    ] = None,
    llm: Annotated[
        str,
        typer.Option(
            metavar="offline|PROVIDER:MODEL",
            help="A model that proposes too: openai, anthropic, local.",
        ),
    ] = "offline",
    llm_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Another server of OpenAI's protocol.")
    ] = None,
    llm_tokens: Annotated[int, typer.Option(min=1, help="The model's allowance.")] = 200_000,
    llm_fallback: Annotated[
        bool, typer.Option("--llm-fallback", help="Go on without the model if it cannot be asked.")
    ] = False,
    llm_record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep all exchanges with the model there.")
    ] = None,
    llm_replay: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take all exchanges from there; ask nobody.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="No round begins that would take longer.  [default: 300; of a build, 60 a module]",
        ),
    ] = None,
    target: Annotated[
        float, typer.Option(min=0, max=100, help="Percent of the points that is enough.")
    ] = 97,
    rounds: Annotated[int, typer.Option(min=1, max=20)] = 3,
    mutants: Annotated[int, typer.Option(min=1, max=4000, help="At most so many.")] = 200,
    cycles: Annotated[int, typer.Option(min=50, max=200_000, help="Simulated a round.")] = 2000,
    depth: Annotated[int, typer.Option(min=2, max=200, help="Cycles of a bounded proof.")] = 24,
    effort: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="For each engine of a round of proofs.")
    ] = 15,
    candidates: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Rank these implementations against FILE.v, and write pairs.jsonl."
        ),
    ] = None,
    clock: Annotated[
        str | None, typer.Option(help="The clock input, if there are several.")
    ] = None,
    reset: Annotated[
        str | None, typer.Option(metavar="NAME|!NAME|none", help="The reset input; !: active low.")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=NUMBER")
    ] = None,
    include: Annotated[
        list[Path] | None, typer.Option("--include", "-I", metavar="DIR", help="Of `include.")
    ] = None,
    define: Annotated[
        list[str] | None, typer.Option("--define", "-D", metavar="NAME[=VALUE]")
    ] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the report.  [default: TARGET.verify]"),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Grade how well a module is verified: properties, proofs, mutants, coverage; any Verilog with a clock."""
    from hwgen.verify import (
        LlmRequest,
        VerifyRequest,
        build_of,
        is_kernel,
        parameters,
        verify_build,
        verify_candidates,
        verify_kernel,
    )
    from hwgen.verify import verify as verify_
    from sim.verify.campaign import Settings
    from sim.verify.formal import Effort

    seconds = 300 if budget is None else budget
    settings = Settings(rounds, target, seconds, mutants, cycles, seed, Effort(effort, depth))
    request = VerifyRequest(
        targets, top, spec, settings, out, clock, reset, parameters(parameter or []), include or [],
        define or [], LlmRequest(llm, llm_url, llm_tokens, llm_fallback, llm_record, llm_replay),
    )  # fmt: skip
    if candidates is None and is_kernel(request):
        grade, folder = verify_kernel(request, console)
        show_grade(console, grade.grade, folder / "report.json")
        if grade.grade.failed:
            raise typer.Exit(CHECK_FAILED)
        return
    if candidates is not None:
        show_candidates(console, *verify_candidates(request, candidates, console))
        return
    if design := build_of(request):
        if budget is None:
            request = replace(
                request, settings=replace(settings, seconds=60.0 * len(design["modules"]))
            )
        parts, folder = verify_build(request, design, console)
        show_parts(console, parts, folder)
        if any(part.violates for part in parts):
            raise typer.Exit(CHECK_FAILED)
        return
    result, folder = verify_(request, console)
    show_verification(console, result, folder)
    if result.violates:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def schedule(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH|MODEL",
            help="A name of `hwgen list graphs`, a card (.yaml), a model (.onnx), MODEL@TOKENS: a layer on a card's "
            "machine; or MODEL, a GPT-2: a layer on InTAR's grid of eight cores.",
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(
            "--policy",
            "-p",
            help="optimal, sequential, dataflow, dataflow-sized or equal-cores; of a layer: optimal, sequential or "
            "hand-intar.",
        ),
    ] = "optimal",
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", "-n", min=1, help="Of a layer's prompt; 128 if not given."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Search for so long, on the solver's own clock.")
    ] = 30.0,
    seed: Seed = 0,
    check: Annotated[
        Path | None, typer.Option(help="Check this plan.yaml, which may be edited, instead.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for plan.yaml and gantt.svg.")
    ] = None,
    target: GraphTarget = None,
    lanes: Lanes = None,
    grow: Grow = None,
    cores: Cores = None,
    spad_bytes: SpadBytes = None,
    bytes_per_cycle: BytesPerCycle = None,
    dtype: Dtype = None,
    dim: Dim = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Schedule the tasks of a kernel on the best machine of its lanes: shortest, and proven so."""
    from designs.cards import list_models
    from generators import kernel
    from hwgen.graphs import open_graph
    from schedules.optimal.solve import Effort

    options = MachineOptions(target, lanes, grow, cores, spad_bytes, bytes_per_cycle)
    if graph in list_models():
        if options != MachineOptions() or dtype or dim or check:
            raise DesignError(
                f"{graph}: a layer's grid is given; only --policy, --tokens and the search can be chosen"
            )
        _schedule_layer(graph, policy, tokens or 128, Effort(seconds, seed), out)
        return
    if tokens is not None:
        raise DesignError(f"--tokens is of a layer of a model; {graph} says its sizes")
    card, _ = open_graph(graph, options, dtype=_dtype(dtype), dims=dim or ())
    if check is not None:
        found = kernel.read_plan(check.read_text(encoding="utf-8", errors="replace"), card)
    else:
        with console.step("search") as step:
            found = kernel.schedule(card, policy, Effort(seconds, seed))
            plan = found.plan
            step.detail = "proven optimal" if plan.proven else f"at least {plan.bound:,} cycles"
    show_plan(console, card, found)
    if out is not None:
        kernel.write_plan(card, found, out)
        console.say(f"wrote {out / 'plan.yaml'} and {out / 'gantt.svg'}")


def _schedule_layer(model: str, policy: str, tokens: int, effort: Effort, out: Path | None) -> None:
    """A layer of a GPT-2 on two columns of cores."""
    from designs.cards import load_model_card
    from generators import kernel
    from generators.layer_by_hand import INTAR
    from generators.layer_grid import GRID, layer_macs
    from generators.layer_plans import schedule_layers

    card = load_model_card(model)
    with console.step("search") as step:
        instance, plan = schedule_layers(card, tokens, policy, effort)
        step.detail = "proven optimal" if plan.proven else f"{plan.makespan:,} cycles"
    published = INTAR.get(tokens) if model == "gpt2-medium" else None
    show_runs(
        console, instance, plan,
        cores=f"2 columns of {GRID.dies} cores, {GRID.lanes:,} lanes in all",
        use=layer_macs(card, tokens) / GRID.lanes / plan.makespan,
        published=(published, "InTAR, cadences of its RTL") if published else None,
    )  # fmt: skip
    if out is not None:
        text = "\n".join([f"layer_of: {model}", f"tokens: {tokens}", *kernel.plan_lines(plan)])
        made_from = {"model": model, "tokens": tokens, "policy": policy}
        kernel.write_files(out, f"{text}\n", kernel.picture(instance, plan), made_from)
        console.say(f"wrote {out / 'plan.yaml'} and {out / 'gantt.svg'}")


@app.command()
def sweep(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="See docs/sweep.md.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write, or go on in.  [default: sweep/SPEC]"),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT|slurm|lsf", help="Work on a Dask cluster."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, help="Processes here, or jobs of slurm or lsf.  [default: all cores]"
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Explore designs: predict them, find those that no other beats, synthesise and simulate these."""
    from generators.sweep.spec import load_spec
    from hwgen.sweep import sweep as run
    from hwgen.workers import open_workers

    asked = load_spec(spec)
    folder = out or Path("sweep") / spec.stem
    with open_workers(scheduler, workers) as found:
        console.say(f"{spec}: {len(asked.choices):,} designs, {found.name}")
        result = run(asked, folder, found, console)
    show_sweep(console, result, folder)
    if result.wrong:
        console.error(f"design {result.wrong[0].number} differs from the golden model")
        raise typer.Exit(CHECK_FAILED)


@app.command()
def accuracy(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH",
            help="A name of `hwgen list graphs`, a card (.yaml), a model (.onnx), or MODEL@TOKENS: a layer.",
        ),
    ],
    weights_from: Annotated[
        Path | None,
        typer.Option(
            help="A .npz file of float weights by name, instead of random ones or a model's own."
        ),
    ] = None,
    dtype: Dtype = None,
    dim: Dim = None,
    seed: Seed = 0,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Measure the integers of a kernel's tasks against float64."""
    from hwgen import kernels
    from hwgen.graphs import open_graph

    card, weights = open_graph(graph, MachineOptions(), dtype=_dtype(dtype), dims=dim or ())
    if weights_from is not None:
        weights = kernels.load_parameters(weights_from)
    with console.step("calibrate and run"):
        found = kernels.accuracy(card, seed, weights)
    show_accuracy(console, card, found)


@app.command()
def report(
    out: Out,
    open_: Annotated[bool, typer.Option("--open", help="Open report.html in the browser.")] = False,
    svg: Annotated[
        Path | None, typer.Option(help="Write the page's drawings into this folder, as SVG.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Show a build's report: the first figures here, the rest in the browser."""
    from generators.files import write
    from generators.report import load
    from generators.report_page import pictures

    found = load(out)
    show_report(console, found)
    if svg is not None:
        for name, text in pictures(found).items():
            write(svg / f"{name}.svg", text)
    page = (out / "report.html").resolve()
    console.say()
    console.say(str(page))
    if open_:
        typer.launch(page.as_uri())


@app.command()
def compare(
    one: Out,
    two: Annotated[Path, typer.Argument(metavar="OTHER", help="Folder of another build.")],
    verbose: Verbose = False,
) -> None:
    """Put the figures of two builds side by side: cycles, time, memory, resources."""
    from generators.comparison import compare as rows_of
    from generators.report import load

    reports = load(one), load(two)
    show_comparison(console, (one, two), reports, rows_of(*reports))


@app.command()
def export(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder that hwgen build or engine wrote.")
    ],
    flow: Annotated[
        str, typer.Option("--flow", "-f", metavar="FLOW", help="See `hwgen list flows`.")
    ],
    to: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write.  [default: OUT/export/FLOW]"),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Another part than the target's, as its vendor calls it.")
    ] = None,
    pdk: Annotated[
        str | None, typer.Option(metavar="ihp-sg13g2|sky130", help="Of --flow openlane.")
    ] = None,
    clock: Annotated[
        float | None, typer.Option(min=0.001, metavar="MHZ", help="Clock to ask for.")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write a finished build as a project of another tool: Vitis, Vivado, Quartus, LibreLane."""
    from generators.export import Options
    from generators.export import export as run

    done = run(out, flow, to, Options(part, pdk, clock), console)
    console.say(f"wrote {done.files} files to {done.folder}")
    console.say(f"next: cd {done.folder} && {done.next}")


# Memory that computes.

pim = typer.Typer(help="Memory that computes: PIM channels, and a system around them.")
app.add_typer(pim, name="pim", no_args_is_help=True)


@pim.command("check")
def pim_check(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="See docs/pim.md for its format.")],
    limit: Annotated[int, typer.Option(min=1, help="Violations to show.")] = 20,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Check a trace of DRAM and PIM commands: which line breaks which rule, by how many cycles."""
    from sim.pim.trace import judge, parse

    config, lines = parse(trace.read_text(encoding="utf-8"))
    broken = list(judge(config, lines))
    for violation in broken[:limit]:
        console.say(str(violation))
    if len(broken) > limit:
        console.say(f"... and {len(broken) - limit:,} more")
    last = max((line.cycle for line in lines), default=0)
    console.say(
        f"{len(lines):,} commands in {last:,} cycles of {config.timing.name}, "
        f"{len(broken):,} violations"
    )
    raise typer.Exit(CHECK_FAILED if broken else OK)


@pim.command("sim")
def pim_sim(
    model: Annotated[
        str, typer.Option(help="gpt3-7b, gpt3-13b, gpt3-30b, gpt3-175b, llama3-8b ...")
    ],
    batch: Annotated[int, typer.Option(min=1, help="Requests at work.")] = 256,
    dataset: Annotated[
        str, typer.Option(help="sharegpt or alpaca: lengths of requests.")
    ] = "sharegpt",
    lengths: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Contexts of the requests, instead.")
    ] = None,
    design: Annotated[
        str | None, typer.Option(help="Only this design; all of them have a line else.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Batches to average over.")] = 3,
    sram_mib: Annotated[
        int | None, typer.Option(min=1, help="On-chip memory of the NPU.  [default: 128]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Serve requests that arrive so often a second.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="To serve, with --rate.")] = 200,
    trace: Annotated[
        Path | None, typer.Option(help="Write a layer of one design for Perfetto.")
    ] = None,
    commands: Annotated[
        Path | None,
        typer.Option(help="Write what its slowest channel gets, for `hwgen pim check`."),
    ] = None,
    seed: Seed = 0,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Simulate decoding on NPUs with memory that computes: a layer, or requests as they arrive."""
    from generators.files import write
    from hwgen.show import show_pim, show_pim_service
    from sim.pim import system, workload
    from sim.pim.serving import check_fit, serve
    from sim.pim.timeline import slowest_channel, timeline

    decoder = workload.decoder(model)
    if design is not None and design not in system.DESIGNS:
        raise DesignError(catalogue.unknown("design", design, list(system.DESIGNS)))
    if (trace is not None or commands is not None) and design is None:
        raise DesignError("--trace and --commands need a --design")
    chosen = [system.DESIGNS[design]] if design else list(system.DESIGNS.values())
    if sram_mib is not None:
        chosen = [system.with_sram(d, sram_mib << 20) for d in chosen]
    if rate is not None:
        served = [(d, serve(d, decoder, dataset, requests, rate, batch, seed)) for d in chosen]
        show_pim_service(console, served)
        return
    batches = workload.batches(dataset, lengths, batch, draws, seed)
    for one in batches:
        check_fit(decoder, one)
    show_pim(console, decoder, batches, chosen)
    if commands is not None:
        write(commands, slowest_channel(chosen[0], decoder, batches[0]))
        console.say(f"wrote {commands}")
    if trace is not None:
        write(trace, timeline(chosen[0], decoder, batches[0]))
        console.say(f"wrote {trace}")


# From an exception to one line and an exit code.


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of Python, for developers; python -W shows them
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, _interrupt)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:  # Python would try again, and print a traceback of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code == OK:
            code, message = explain(error)
            console.error(message)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors become one line on standard error."""
    message = ""
    try:
        code = app(arguments, prog_name="hwgen", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        code, message = explain(error)
        if console.verbose and code != INTERRUPTED:
            console.traceback(error)
    console.close()
    if code == INTERRUPTED:  # newer versions of Typer return it, older ones raise
        message = "interrupted"
    if message:  # there is none after the help that stands for a missing command
        console.error(message)
    return code if isinstance(code, int) else OK


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code of an error, and its one line."""
    text = " ".join(str(error).split())
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return INTERRUPTED, "interrupted"
    if isinstance(error, DesignError):
        return ASKED_WRONGLY, text
    if isinstance(error, _UsageError):
        return ASKED_WRONGLY, " ".join(error.format_message().split())  # type: ignore[attr-defined]
    if isinstance(error, ScheduleError):
        return CHECK_FAILED, text
    code = getattr(error, "exit_code", None)  # the other wings' errors say which it is
    if isinstance(code, int):
        return code, text
    if isinstance(error, ModuleNotFoundError):
        return TOOL_FAILED, f"the package {error.name} is missing (hwgen doctor)"
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _DISK):
        code = TOOL_FAILED if error.errno in _DISK else ASKED_WRONGLY
        return code, f"{error.filename or 'the disk'}: {error.strerror}"
    return CHECK_FAILED, f"internal error: {type(error).__name__}: {text} (-v shows where)"


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
