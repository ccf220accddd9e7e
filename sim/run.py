# SPDX-License-Identifier: Apache-2.0
"""Run a build's RTL, on a text or on random data, and compare it with the golden model."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from designs import quantised
from designs.errors import DesignError
from designs.memory_map import MemoryMap
from designs.progress import Progress, SilentProgress
from designs.quantised import QuantModel
from designs.tokenizer import TextStream, check_ids, encode_prompt, tokenizer_for
from sim.built import Built, load
from sim.compare import Comparison, Expected, compare, compare_arrays
from sim.golden import transformer
from sim.model import Speed, compile_model
from sim.runner import Event, Job, Outcome, execute

__all__ = ["SimResult", "WriteImage", "check_tokens", "generate", "run_layers"]

WriteImage = Callable[[QuantModel, MemoryMap, Path, int, Progress], None]
"""Writes a memory image: ``generators.image.write_image``."""

OnToken = Callable[[int, str], None]

_LONG_RUN = 1_500_000
"""Cycles from which a run is worth the longer compilation."""

_FILL = 0x5B
"""What memory holds that nobody has written."""


@dataclass(frozen=True)
class SimResult:
    """What a simulation gave.

    Parameters
    ----------
    tokens : generated ids.
    text : the same as text; ids with spaces between them if the model has no tokenizer.
    cycles : from the start to the interrupt.
    token_cycles : cycle in which each token was written to memory.
    cycles_per_token : mean between two tokens; None with fewer than two.
    wall_seconds, cycles_per_second : of the simulation alone.
    identical : whether all that was compared equals the golden model, and no rule was broken.
    mismatch : the first difference, or the first broken rule, in one sentence.
    values : how many values were compared.
    counters : the accelerator's own counters, and the transfers that the memory saw.
    prompt, layers : tokens of the prompt, layers that were run.
    """

    tokens: list[int]
    text: str
    cycles: int
    token_cycles: list[int]
    cycles_per_token: float | None
    wall_seconds: float
    cycles_per_second: float
    identical: bool
    mismatch: str | None
    values: int
    counters: dict[str, int]
    prompt: int
    layers: int


def generate(
    out: Path,
    prompt: str | Sequence[int],
    tokens: int,
    *,
    on_token: OnToken = lambda token, text: None,
    waves: Path | None = None,
    progress: Progress | None = None,
    probes: bool | None = None,
    speed: Speed | None = None,
) -> SimResult:
    """Continue a prompt by ``tokens`` tokens on the simulated accelerator.

    Parameters
    ----------
    out : the build's folder; it must have weights.
    prompt : text, or token ids.
    on_token : gets every token and its text as soon as the accelerator has written it to memory;
        a character that takes several tokens comes with the last of them.
    waves : file for a waveform (FST).
    progress : told of the steps.
    probes : compare every tensor, not only the tokens; None does so for small models.
    speed : how to compile; None chooses by the length of the run.

    Raises
    ------
    DesignError
        If the build has no weights, or the prompt is empty, too long, or not in the vocabulary.
    ToolError
        If a tool is missing or fails.
    SimulationError
        If an assertion of the RTL fails.
    """
    progress = progress or SilentProgress()
    built = load(out)
    ids = _check_prompt(built, prompt, tokens)
    if built.weights is None or built.quantised is None:
        raise DesignError(
            f"{out} has no weights to generate text with: build it with --weights-from, "
            "or run layers on random data (--layers 1 --random)"
        )
    if probes is None:
        probes = built.map.layers * built.map.width <= 4096
    model = quantised.load(built.quantised, keep=None if probes else 2)
    cache = transformer.KVCache(model)
    run = _Run(built, model, cache, ids, tokens, built.map.layers)
    return run.play(built.weights, on_token, waves, probes, speed, progress)


def run_layers(
    out: Path,
    layers: int,
    tokens: int | Sequence[int] = 1,
    past: int = 0,
    seed: int = 0,
    *,
    model: QuantModel,
    write_image: WriteImage,
    generate: int = 0,
    waves: Path | None = None,
    progress: Progress | None = None,
    probes: bool = True,
    speed: Speed | None = None,
) -> SimResult:
    """Run the first layers on a model that is not in the build, and compare every tensor.

    Parameters
    ----------
    out : the build's folder.
    layers : how many layers to run.
    tokens : tokens of the pass: how many random ones, or their ids.
    past : tokens whose (random) keys and values are in the cache before.
    seed : of what is random here: tokens and cache.
    model : the weights; ``generators.quantise.random_quantised``.
    write_image : puts them into a memory image; ``generators.image.write_image``.
    generate : tokens to generate afterwards; each costs the head and but for the last another pass.

    Raises
    ------
    DesignError
        If the build has fewer layers, or the tokens do not fit into its context.
    """
    progress = progress or SilentProgress()
    built = load(out)
    if not 1 <= layers <= built.map.layers:
        raise DesignError(f"layers must be 1 to {built.map.layers}, not {layers}")
    draw = np.random.default_rng([seed, 1])
    if isinstance(tokens, int):
        if tokens < 1:
            raise DesignError(f"a pass needs at least one token, not {tokens}")
        chosen = draw.integers(0, built.map.vocabulary, tokens).tolist()
    else:
        chosen = list(tokens)
    ids = check_tokens(built, chosen, generate, past)
    if past and built.pim_channels:
        raise DesignError(
            f"{out} keeps keys and values in PIM channels: a run begins without any (past 0, not {past})"
        )
    cache = transformer.KVCache(model, layers)
    for half in (cache.k, cache.v):
        half[:, :past] = draw.integers(-127, 128, half[:, :past].shape, np.int8)
    cache.length = past
    run = _Run(built, model, cache, ids, generate, layers)
    with _scratch(built) as folder:
        image = folder / "image.bin"
        with progress.step("image", "random weights"):
            write_image(model, built.map, image, layers, progress)
        return run.play(image, lambda token, text: None, waves, probes, speed, progress)


# ---- Checks --------------------------------------------------------------------------------------


def _check_prompt(built: Built, prompt: str | Sequence[int], tokens: int) -> list[int]:
    """The prompt as ids that fit."""
    if isinstance(prompt, str):
        prompt = encode_prompt(built.card, prompt, built.folder)
    return check_tokens(built, list(prompt), tokens, 0)


def check_tokens(built: Built, tokens: Sequence[int], generate: int, past: int) -> list[int]:
    """The ids of a prompt that fits behind ``past`` tokens, with ``generate`` more.

    Raises
    ------
    DesignError
        If it is empty, too long, or not in the vocabulary.
    """
    ids, context = [int(token) for token in tokens], built.map.context
    if not ids:
        raise DesignError("the prompt is empty; give at least one token")
    if generate < 0 or past < 0:
        raise DesignError(f"tokens must not be negative, not {min(generate, past)}")
    check_ids(ids, built.map.vocabulary)
    need = past + len(ids) + max(generate - 1, 0)  # the last token is not read again
    if need > context:
        parts = [f"{past} in the cache"] if past else []
        parts += [f"{len(ids)} of the prompt", f"{generate} to generate"]
        raise DesignError(
            f"{' and '.join(parts)} need {need} positions, but the context has {context}; "
            f"with this prompt at most {max(context + 1 - past - len(ids), 0)} can be generated"
        )
    return ids


# ---- The run -------------------------------------------------------------------------------------


@dataclass
class _Run:
    """One start of the accelerator, and what the golden model says about it."""

    built: Built
    model: QuantModel
    cache: transformer.KVCache
    prompt: list[int]
    count: int
    layers: int

    def play(
        self,
        image: Path,
        on_token: OnToken,
        waves: Path | None,
        probes: bool,
        speed: Speed | None,
        progress: Progress,
    ) -> SimResult:
        built = self.built
        if speed is None:
            long = self._cycles_done(self._work) > _LONG_RUN
            speed = "fast-run" if long else "fast-build"
        if waves is not None and not waves.absolute().parent.is_dir():
            raise DesignError(f"{waves} cannot be written: its folder does not exist")
        program = compile_model(
            built.folder, waves=waves is not None, speed=speed, probes=probes, progress=progress
        )
        past = self.cache.length
        with _scratch(built) as folder, _finished_file(waves) as waves_file:
            job = self._job(folder, image, probes, waves_file)
            outcome = self._simulate(program, job, on_token, progress)
            with progress.step("golden") as step:
                expected = Expected()
                golden = transformer.generate(
                    self.model,
                    self.prompt,
                    self.count,
                    chunk=built.chunk,
                    observe=expected if probes else None,
                    layers=self.layers,
                    cache=self.cache,
                )
                compared = Comparison(len(golden), 0, None)
                if probes:
                    lanes = built.map.lanes
                    compared = compare(folder, expected.passes, built.phases, lanes)
                problems = list(self._problems(outcome, compared, golden, past, folder, probes))
                step.detail = f"{compared.values} values of {compared.tensors} tensors"
        return self._result(outcome, problems, compared)

    @property
    def _work(self) -> int:
        """Stripes of weights that the run reads."""
        return sum(stripes for stripes, _ in self._pass_work)

    @property
    def _pass_work(self) -> list[tuple[int, int]]:
        """Stripes of weights of each pass, and about how many cycles one of them takes."""
        memory, chunk = self.built.map, self.built.chunk
        lengths = [min(chunk, len(self.prompt) - k) for k in range(0, len(self.prompt), chunk)]
        lengths += [1] * max(self.count - 1, 0)
        work = []
        for index, length in enumerate(lengths):
            head = self.count and index >= len(lengths) - self.count
            stripes = memory.stream_stripes(self.layers) + (memory.head_stripes if head else 0)
            groups = -(-length // self.built.tokens)
            work.append((stripes, max(1, groups // memory.beat_stripes)))
        return work

    def _cycles_done(self, stripes: int) -> int:
        """About how many cycles the run has behind it when it has read so many stripes."""
        done = 0
        for size, cycles in self._pass_work:
            part = min(size, stripes)
            done, stripes = done + part * cycles, stripes - part
        return done

    def _job(self, folder: Path, image: Path, probes: bool, waves: Path | None) -> Job:
        built, memory = self.built, self.built.map
        past, stripe = self.cache.length, memory.stripe_bytes
        end = past + len(self.prompt)
        scratch = np.zeros((memory.tokens + end) * stripe, np.uint8)
        memory.write_tokens(scratch, past, self.prompt)
        first = memory.tokens + past
        (folder / "tokens").write_bytes(scratch[first * stripe :].tobytes())
        pokes = [(first * stripe, folder / "tokens")]
        if past:
            pokes.append((memory.k * stripe, folder / "cache"))
            space = np.empty(memory.total_bytes, np.uint8)  # of which only the end is touched
            space[memory.k * stripe :] = _FILL
            for layer in range(self.layers):
                memory.write_kv(space, "k", layer, 0, self.cache.k[layer, :past])
                memory.write_kv(space, "v", layer, 0, self.cache.v[layer, :past])
            (folder / "cache").write_bytes(space[memory.k * stripe :].tobytes())
        dumps = []
        if probes and not built.pim_channels:
            size = memory.total_bytes - memory.k * stripe
            dumps.append((memory.k * stripe, size, folder / "cache-after"))
        registers = built.registers
        values = {
            "prompt": len(self.prompt),
            "generate": self.count,
            "position": past,
            "layers": self.layers,
        }
        reads = {name: registers[name] for name in ("generated", "token") if name in registers}
        if "cycles" in registers:
            reads |= {"cycles": registers["cycles"], "cycles_high": registers["cycles"] + 4}
        return Job(
            built,
            image=image.resolve(),
            pokes=pokes,
            dumps=dumps,
            writes=[(registers[name], value) for name, value in values.items()],
            reads=reads | built.counters,
            writable=[
                (memory.tokens + end, memory.tokens + memory.context + 1),
                (memory.k, memory.total_stripes),
            ],
            tokens=(memory.tokens + end, memory.tokens + memory.context + 1, memory.tokens),
            count=(memory.weights, memory.head + memory.head_stripes),
            probes=folder if probes else None,
            waves=waves,
            fill=_FILL,
        )

    def _simulate(self, program: Path, job: Job, on_token: OnToken, progress: Progress) -> Outcome:
        stream = TextStream(tokenizer_for(self.built.card, self.built.folder))
        total = self._cycles_done(self._work)

        def listen(event: Event) -> None:
            if event["event"] == "token":
                token = event["token"]
                on_token(token, stream.push(token))
            elif event["event"] == "progress":
                progress.advance(self._cycles_done(event["beats"]), total, _rate(event["rate"]))

        with progress.step("simulate") as step:
            began = time.monotonic()
            outcome = execute(program, job, on_event=listen)
            seconds = outcome.wall_seconds or time.monotonic() - began
            rate = _rate(max(outcome.cycles, 0) / max(seconds, 1e-9))
            step.detail = f"{outcome.cycles} cycles, {rate}"
        return outcome

    def _problems(
        self,
        outcome: Outcome,
        compared: Comparison,
        golden: list[int],
        past: int,
        folder: Path,
        probes: bool,
    ) -> Iterator[str]:
        """Everything that is wrong, most telling first."""
        found = compared.mismatch
        if found is not None and found.got is not None:
            yield str(found)
        yield from outcome.errors
        if found is not None and found.got is None:  # never written: the error before says why
            yield str(found)
        first = past + len(self.prompt)
        for k, wanted in enumerate(golden):
            if k >= len(outcome.tokens):
                yield f"token {k}: expected {wanted}, never written"
                break
            cycle, position, got = outcome.tokens[k]
            if got != wanted:
                yield f"token {k}: expected {wanted}, got {got} at cycle {cycle}"
                break
            if position != first + k:
                yield f"token {k}: written at position {position}, expected {first + k}"
                break
        if len(outcome.tokens) > len(golden):
            yield f"{len(outcome.tokens)} tokens were written, expected {len(golden)}"
        if probes and compared.mismatch is None and not outcome.errors:
            yield from self._cache_problems(folder)
        counted = outcome.registers.get("generated")
        if counted is not None and counted != self.count:
            yield f"register generated is {counted}, expected {self.count}"

    def _cache_problems(self, folder: Path) -> Iterator[str]:
        """Keys and values in memory after the run."""
        memory = self.built.map
        if self.built.pim_channels:  # they are in PIM channels: what they give was compared
            return
        space = np.zeros(memory.total_bytes, np.uint8)
        space[memory.k * memory.stripe_bytes :] = np.fromfile(folder / "cache-after", np.uint8)
        for layer in range(self.layers):
            for which, half in (("k", self.cache.k), ("v", self.cache.v)):
                wanted = half[layer, : self.cache.length]
                got = memory.read_kv(space, which, layer, self.cache.length)
                name = f"h.{layer}.{which}"
                yield from compare_arrays(name, got, wanted, "in memory after the run")

    def _result(self, outcome: Outcome, problems: list[str], compared: Comparison) -> SimResult:
        tokens = [token for _, _, token in outcome.tokens]
        cycles = [cycle for cycle, _, _ in outcome.tokens]
        tokenizer = tokenizer_for(self.built.card, self.built.folder)
        if tokenizer is not None and all(token < tokenizer.vocabulary for token in tokens):
            text = tokenizer.decode(tokens)
        else:
            text = " ".join(map(str, tokens))
        steady = len(cycles) > 1
        return SimResult(
            tokens=tokens,
            text=text,
            cycles=outcome.cycles,
            token_cycles=cycles,
            cycles_per_token=(cycles[-1] - cycles[0]) / (len(cycles) - 1) if steady else None,
            wall_seconds=outcome.wall_seconds,
            cycles_per_second=max(outcome.cycles, 0) / max(outcome.wall_seconds, 1e-9),
            identical=not problems,
            mismatch=problems[0] if problems else None,
            values=compared.values,
            counters=outcome.registers | outcome.transfers,
            prompt=len(self.prompt),
            layers=self.layers,
        )


def _rate(cycles_per_second: float) -> str:
    if cycles_per_second >= 1e6:
        return f"{cycles_per_second / 1e6:.1f} M cycles/s"
    return f"{cycles_per_second / 1e3:.1f} k cycles/s"


@contextmanager
def _scratch(built: Built) -> Iterator[Path]:
    """A folder inside the build that is gone afterwards."""
    parent = built.folder / "sim"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".run-", dir=parent) as name:
        yield Path(name)


@contextmanager
def _finished_file(path: Path | None) -> Iterator[Path | None]:
    """Where to write a file that shall appear under ``path`` only when it is complete."""
    if path is None:
        yield None
        return
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        if partial.exists():
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
