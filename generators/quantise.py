# SPDX-License-Identifier: Apache-2.0
"""From float weights and calibration to the integers of a design.

The arithmetic that these integers feed is ``sim/golden/ops.py``; the factors are those of
``docs/architecture.md``, section 4. Weights are symmetric int8 per output channel, of which a
compressed format holds some only (``generators/compress.py``); activations have one static scale per
tensor, from what calibration saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.quantised import (
    Activation,
    LazyLayers,
    ModelShape,
    Observed,
    QuantLayer,
    QuantLinear,
    QuantModel,
    QuantNorm,
    Ranges,
    Scaling,
)
from designs.weight_format import FACTORS, INT8, WeightFormat
from generators.compress import Compression, compress

__all__ = [
    "QuantiseOptions", "check_activation", "quantise", "random_quantised", "rotary_angles", "scaling",
    "scalings",
]  # fmt: skip

Weights = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

GATES = {"gelu_new": "gelu", "relu": "relu", "silu": "silu"}
"""Of each activation that a card can name and hardware has: the gate's table, ``ops.GATE_TABLE``."""

GATE_STEP = 2.0**-10
"""One step of the argument of a gated activation, ``ops.GATE_FRACTION``."""

SCORE_STEP = 2.0**-8
"""One step of a score, ``ops.SCORE_FRACTION``."""

ROTARY_STEPS = 2.0**5
"""Steps of a query or key before it is turned in one of the int8, ``ops.ROTARY_FRACTION``."""

ANGLE_STEP = 2.0**-14
"""One step of a cosine or sine, ``ops.ANGLE_FRACTION``."""

FACTOR_STEPS = 2.0**15
"""By how much the product of an activated value and its factor is scaled, ``ops.PRODUCT_FRACTION``."""

PRODUCT = 128 * 127
"""The largest magnitude of one product of an int8 activation with an int8 weight."""


@dataclass(frozen=True)
class QuantiseOptions:
    """How scales are chosen.

    Parameters
    ----------
    clip : ``"max"`` covers all that calibration saw; ``"mse"`` what gives the least squared error.
    headroom : of the residual stream and the logits, over the largest value that calibration saw.
    smoothing : 0 to 1: how far outliers of a norm's features are moved into the weights behind it
        (SmoothQuant, Xiao et al. 2023, section 4); 0 moves nothing.
    """

    clip: Literal["max", "mse"] = "mse"
    headroom: float = 1.25
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        if self.clip not in ("max", "mse"):
            raise DesignError(f'clip must be "max" or "mse", not {self.clip!r}')
        if self.headroom < 1:
            raise DesignError(f"headroom must be at least 1, not {self.headroom}")
        if not 0 <= self.smoothing <= 1:
            raise DesignError(f"smoothing must be 0 to 1, not {self.smoothing}")


def quantise(
    weights: Weights,
    card: ModelCard,
    ranges: Ranges,
    options: QuantiseOptions | None = None,
    *,
    compression: Compression | None = None,
    errors: dict[str, float] | None = None,
    lazy: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> QuantModel:
    """Quantise a float model: int8 activations, weights in the formats of ``compression``.

    Parameters
    ----------
    weights : by the Model's names, as ``Checkpoint.weights`` returns; each is asked for once.
    card : the model.
    ranges : what its tensors held over the calibration text (``sim.calibrate.observe_ranges``).
    options : how scales are chosen.
    compression : how weights are stored; int8, all of them, if None.
    errors : if given, gets for every matrix the error of its outputs over the calibration's sample, squared, as
        a part of the outputs squared.
    lazy : layers are quantised when they are asked for, and only the last one stays in memory: for a
        reader who takes each once. Scales and errors of a layer are there after it.
    progress : told how many layers are done, of how many.

    Raises
    ------
    DesignError
        If the activation is not supported, calibration lacks a tensor, a factor is out of range, or
        weights do not fit their format.
    """
    check_activation(card)
    chosen = options or QuantiseOptions(), compression or Compression()
    return _Quantiser(weights, card, ranges, *chosen, errors).model(progress, lazy)


def check_activation(card: ModelCard) -> None:
    """Raise a DesignError if there is no hardware for the model's activation."""
    if card.activation not in GATES:
        raise DesignError(
            f"model {card.name} has activation {card.activation}; supported are {', '.join(GATES)}"
        )


class _Quantiser:
    """One model on its way to integers; ``scales`` fills as tensors get theirs."""

    def __init__(
        self,
        weights: Weights,
        card: ModelCard,
        ranges: Ranges,
        options: QuantiseOptions,
        compression: Compression,
        errors: dict[str, float] | None,
    ) -> None:
        self.weights, self.card, self.ranges, self.options = weights, card, ranges, options
        self.compression, self.errors = compression, errors
        stream = ["embed", *(f"h{i}.add_{n}" for i in range(card.layers) for n in (1, 2))]
        peak = max(ranges[name].peak for name in stream)
        rows = ("wte.weight", "wpe.weight") if card.position == "learned" else ("wte.weight",)
        tables = max(_peak(weights[t]) for t in rows)
        residual = max(peak * options.headroom, tables) / 32767
        self.scales = {"residual": residual or 1.0}

    def tensor(self, name: str) -> NDArray[np.floating[Any]]:
        """As it is stored: whoever computes with a part of it makes that part double precision."""
        return np.asarray(self.weights[name])

    def rows(self, name: str) -> NDArray[np.int16]:
        """A table of rows in steps of the residual stream."""
        table = self.tensor(name)
        found = np.empty(table.shape, np.int16)
        for part in _parts(len(table), table.shape[1]):
            found[part] = _int16(table[part].astype(np.float64) / self.scales["residual"])
        return found

    def model(self, progress: Callable[[int, int], object], lazy: bool) -> QuantModel:
        card = self.card
        head = self.tensor("wte.weight" if card.tied_head else "lm_head.weight").T

        def make(i: int) -> QuantLayer:
            layer = self.layer(i)
            progress(i + 1, card.layers)
            return layer

        layers = LazyLayers(card.layers, make) if lazy else tuple(map(make, range(card.layers)))
        smooth = self.smooth("ln_f", head)
        ln_f = self.norm("ln_f", smooth)
        out = self.ranges["lm_head"].peak * self.options.headroom / 32767 or 1.0
        self.scales["logits"] = out
        return QuantModel(
            name=card.name,
            shape=ModelShape.of(card),
            layers=layers,
            ln_f=ln_f,
            head=self.linear("lm_head", "ln_f", head, np.zeros(1), out, smooth),
            wte=self.rows("wte.weight"),
            wpe=(
                rotary_angles(card.context, card.head_size, card.rope_theta)
                if card.position == "rotary"
                else self.rows("wpe.weight")
            ),
            scales=self.scales,
        )

    def layer(self, i: int) -> QuantLayer:
        h, card, scales = f"h{i}", self.card, self.scales
        rotary = card.position == "rotary"
        w = {name: self.tensor(f"{h}.{name}.weight") for name in ("k", "v", "q")}
        b = {name: self.bias(f"{h}.{name}") for name in w}
        smooth_1 = self.smooth(f"{h}.ln_1", w["q"], w["k"], w["v"])
        ln_1 = self.norm(f"{h}.ln_1", smooth_1)
        for name in ("k", "v", "q", "context"):
            seen = f"{h}.{name}_rotary" if rotary and name in "kq" else f"{h}.{name}"
            scales[f"{h}.{name}"] = self.scale(self.ranges[seen])
        scales[f"{h}.act"] = self.scale(self.ranges[f"{h}.act"])
        if rotary:
            for name in "kq":
                w[name], b[name] = (_adjacent(part, card.head_size) for part in (w[name], b[name]))
        qkv = {
            name: self.linear(
                f"{h}.{name}", f"{h}.ln_1", w[name], b[name],
                scales[f"{h}.{name}"] / (ROTARY_STEPS if rotary and name in "kq" else 1), smooth_1,
            )
            for name in w
        }  # fmt: skip
        score = scales[f"{h}.q"] * scales[f"{h}.k"] * card.head_size**-0.5 * math.log2(math.e)
        return QuantLayer(
            ln_1=ln_1,
            **qkv,
            scores=scaling(score / SCORE_STEP, f"{h}.scores"),
            context=scaling(scales[f"{h}.v"] / scales[f"{h}.context"], f"{h}.context", bits=15),
            proj=self.plain(f"{h}.proj", f"{h}.context", scales["residual"]),
            **self.hidden(h),
            fc2=self.plain(f"{h}.fc2", f"{h}.act", scales["residual"]),
        )

    def hidden(self, h: str) -> dict[str, Any]:
        """The norm, products and activation of the feed-forward half up to its hidden values."""
        out = self.scales[f"{h}.act"]
        names = ("fc1", "up") if self.card.gated else ("fc1",)
        w = {name: self.tensor(f"{h}.{name}.weight") for name in names}
        smooth = self.smooth(f"{h}.ln_2", *w.values())
        steps = {"fc1": GATE_STEP}
        found: dict[str, Any] = {"ln_2": self.norm(f"{h}.ln_2", smooth)}
        if self.card.gated:
            half = self.ranges[f"{h}.fc1"].maximum.size // 2
            peak = float(self.ranges[f"{h}.fc1"].maximum[half:].max())
            steps["up"] = peak * self.options.headroom / 32767 or 1.0
            out /= steps["up"] * FACTOR_STEPS
        for name, part in w.items():
            bias = self.bias(f"{h}.{name}")
            found[name] = self.linear(f"{h}.{name}", f"{h}.ln_2", part, bias, steps[name], smooth)
        act = scaling(GATE_STEP / out, f"{h}.act")
        found["activation"] = Activation(act.multiplier, act.shift, GATES[self.card.activation])
        return found

    def plain(self, what: str, source: str, scale_out: float) -> QuantLinear:
        """Quantise a linear layer as the model has it."""
        return self.linear(what, source, self.tensor(f"{what}.weight"), self.bias(what), scale_out)

    def linear(
        self,
        what: str,
        source: str,
        weight: NDArray[np.floating[Any]],
        bias: NDArray[np.floating[Any]],
        scale_out: float,
        smooth: Floats | float = 1.0,
    ) -> QuantLinear:
        """Quantise a linear layer [k, n] behind the tensor ``source``, which was divided by ``smooth``."""
        k, n = weight.shape
        smooth = np.broadcast_to(np.asarray(smooth, np.float64), (k,))
        bias = np.broadcast_to(np.asarray(bias, np.float64), (n,))
        scale_in, form = self.scales[source], self.compression.of(what)
        least = _least_scale(what, k, bias, scale_in, scale_out)
        inputs = self.ranges[source].rows.reshape(-1, k) / smooth
        integers, scale = np.empty((k, n), np.int8), np.empty(n)
        error = whole = 0.0
        for part in _parts(n, k, max(2, form.block)):  # outputs know nothing of each other
            wanted = weight[:, part].astype(np.float64) * smooth[:, None]
            integers[:, part], scale[part] = self.rounded(what, wanted, form, inputs, least[part])
            if self.errors is not None:
                off = integers[:, part] * scale[part] - wanted
                error += float(np.square(inputs @ off).sum())
                whole += float(np.square(inputs @ wanted).sum())
        if self.errors is not None:
            self.errors[what] = error / max(whole, 1e-30)
        return _linear(what, integers, scale, bias, scale_in, scale_out, form)

    def rounded(
        self, what: str, weight: Floats, form: WeightFormat, inputs: Floats, least: Floats
    ) -> tuple[NDArray[np.int8], Floats]:
        """Integers and scales of outputs [k, n]."""
        stream = self.compression.stream
        if form == INT8 == stream:
            scale = np.maximum(np.abs(weight).max(axis=0) / 127, least)
            return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale
        return compress(
            what, weight, form, self.compression.method, inputs, least, limit=form.limit_in(stream)
        )

    def bias(self, name: str) -> NDArray[np.floating[Any]]:
        return self.tensor(f"{name}.bias") if self.card.biases else np.zeros(1)

    def norm(self, name: str, smooth: Floats) -> QuantNorm:
        """A norm whose feature ``j`` is divided by ``smooth[j]``."""
        seen = self.ranges[name]
        factor = (1 / smooth).astype(np.float32)
        scale = self.scale(Observed(seen.maximum * factor, seen.rows * factor))
        self.scales[name] = scale
        gamma = self.tensor(f"{name}.weight").astype(np.float64) / smooth / scale
        centred = self.card.norm == "layernorm"
        bias = self.tensor(f"{name}.bias").astype(np.float64) if centred else 0.0
        beta = bias / smooth / scale if centred else np.zeros_like(gamma)
        return _norm(name, gamma, beta, self.card.norm_eps, self.scales["residual"])

    def smooth(self, name: str, *behind: NDArray[np.floating[Any]]) -> Floats:
        """By how much to divide each feature of a norm, [d]; ``behind`` are its readers, [d, n] each."""
        alpha = self.options.smoothing
        outer = self.ranges[name].maximum.astype(np.float64)
        inner = np.zeros(outer.shape)
        for reader in behind:
            for part in _parts(*reader.shape):
                inner[part] = np.maximum(inner[part], np.abs(reader[part]).max(axis=1))
        if alpha == 0 or not (outer > 0).all() or not (inner > 0).all():
            return np.ones(outer.shape)
        factor = outer**alpha / inner ** (1 - alpha)
        return factor / np.exp(np.log(factor).mean())

    def scale(self, seen: Observed) -> float:
        """The real value of one step of an int8 tensor."""
        peak = seen.peak
        if peak == 0:
            return 1.0
        if self.options.clip == "max":
            return peak / 127
        candidates = peak / 127 * np.linspace(0.3, 1.0, 36)
        rows = seen.rows.reshape(-1)
        errors = [
            float(np.square(np.clip(np.rint(rows / s), -128, 127) * s - rows).mean())
            for s in candidates.astype(np.float32)
        ]
        return float(candidates[int(np.argmin(errors))])


_PART = 1 << 24
"""Most numbers of a matrix that are in double precision at a time, or a row or column of it."""


def _parts(count: int, size: int, unit: int = 1) -> Iterator[slice]:
    """``count`` rows or columns of ``size`` numbers in parts; ``unit`` of them stay together."""
    step = max(unit, _PART // size // unit * unit)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _peak(table: NDArray[np.floating[Any]]) -> float:
    return max(float(table.max()), -float(table.min()))


def _adjacent(part: NDArray[np.floating[Any]], head_size: int) -> NDArray[np.floating[Any]]:
    """Outputs [..., n] of which feature ``i`` and ``i + half`` of every head become neighbours.

    Scores do not change with the order of a head's features; hardware turns neighbours.
    """
    if part.shape[-1] == 1:  # no bias
        return part
    halves = part.reshape(*part.shape[:-1], -1, 2, head_size // 2)
    return np.swapaxes(halves, -1, -2).reshape(part.shape)


def rotary_angles(context: int, head_size: int, theta: float) -> NDArray[np.int16]:
    """Cosine and sine of each pair of a head at each position, [context, head size].

    Number ``2 i`` of a row is the cosine and ``2 i + 1`` the sine of
    ``position / theta**(2 i / head_size)``, with 14 fraction bits (``ops.ANGLE_FRACTION``): within
    2**-15.
    """
    frequency = theta ** (-np.arange(0, head_size, 2) / head_size)
    angle = np.arange(context)[:, None] * frequency
    pairs = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    return _int16(pairs / ANGLE_STEP).reshape(context, head_size)


def scalings(
    factor: NDArray[np.floating[Any]], what: str, bits: int = 16
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Real factors as ``multiplier / 2**shift``, with multipliers of exactly ``bits`` bits.

    Parameters
    ----------
    factor : positive, [n].
    what : whose factors, for the message.

    Raises
    ------
    DesignError
        If a factor needs a shift outside 1 to 63.
    """
    factor = np.asarray(factor, np.float64)
    good = np.isfinite(factor) & (factor > 0)
    mantissa, exponent = np.frexp(np.where(good, factor, 1.0))
    multiplier = np.rint(mantissa * 2.0**bits).astype(np.int64)
    carry = multiplier == 1 << bits
    multiplier = np.where(carry, 1 << (bits - 1), multiplier)
    shift = bits - exponent.astype(np.int64) - carry
    bad = ~good | (shift < 1) | (shift > 63)
    if bad.any():
        raise DesignError(
            f"{what}: the factor {factor[bad].flat[0]:.3g} cannot be a {bits}-bit multiplier and a "
            "shift of 1 to 63; the weights or the calibration are out of proportion"
        )
    return multiplier, shift


def scaling(factor: float, what: str, bits: int = 16) -> Scaling:
    """One real factor, see `scalings`."""
    multiplier, shift = scalings(np.array([factor]), what, bits)
    return Scaling(int(multiplier[0]), int(shift[0]))


def _least_scale(what: str, k: int, bias: Floats, scale_in: float, scale_out: float) -> Floats:
    """The least scale of each output's weights, [n]: the bias must fit into the accumulator.

    And never so small that the factor needs a longer shift (such a channel adds nothing).
    """
    room = 2**31 - 1 - k * PRODUCT
    if room < 1:
        raise DesignError(f"{what}: {k} inputs can overflow 32-bit accumulators")
    return np.maximum(np.abs(bias) / (scale_in * room), scale_out / scale_in * 2.0**-40)


def _linear(
    what: str,
    weight: NDArray[np.int8],
    scale: Floats,
    bias: Floats,
    scale_in: float,
    scale_out: float,
    form: WeightFormat,
) -> QuantLinear:
    """A linear layer of integers [k, n], whose steps are ``scale`` [n]."""
    multiplier, shift = scalings(scale * (scale_in / scale_out), what)
    return QuantLinear(
        weight=weight,
        bias=np.rint(bias / (scale * scale_in)).astype(np.int32),
        multiplier=multiplier.astype(np.uint16),
        shift=shift.astype(np.uint8),
        format=form,
    )


def _norm(what: str, gamma: Floats, beta: Floats, eps: float, scale_in: float) -> QuantNorm:
    """A norm of which gamma and beta are in steps of the output, [d]."""
    peak = max(float(np.abs(gamma).max()), float(np.abs(beta).max()), 2.0**-15)
    gamma_shift = min(15, math.floor(math.log2(32767 / peak)))
    if gamma_shift < 0:
        raise DesignError(
            f"{what}: gamma or beta is {peak:.0f} steps of the output, more than 16 bits"
        )
    epsilon = max(1, round(eps * gamma.size**2 / scale_in**2))
    if epsilon >= 2**56:
        raise DesignError(f"{what}: the residual stream is too small beside epsilon {eps}")
    return QuantNorm(
        gamma=_int16(gamma * 2.0**gamma_shift),
        beta=_int16(beta * 2.0**gamma_shift),
        gamma_shift=gamma_shift,
        epsilon=epsilon,
    )


def _int16(values: Floats) -> NDArray[np.int16]:
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)


# ---- Random models, for benchmarks and tests -----------------------------------------------------

_ACTIVATION = 32.0
"""Standard deviation that the int8 tensors of a random model are aimed at."""

_EMBEDDING, _DELTA, _LOGIT = 1500.0, 250.0, 4096.0
"""The same of wte and wpe, of what half a layer adds to the residual stream, and of logits."""

_UNIFORM = 127 / math.sqrt(3)
"""Standard deviation of the weights, which are uniform."""

_CONTEXT = 20.0
"""The same of the context, which grows with depth, as the tokens become alike."""

_HIDDEN = 21.0
"""Root mean square of the hidden values."""

_SCORE = 1.5
"""Standard deviation of a score, as a power of two."""


def random_quantised(
    card: ModelCard,
    seed: int,
    layers: int | None = None,
    compression: Compression | None = None,
) -> QuantModel:
    """A model of random integers whose activations neither vanish nor saturate.

    Layers are made when they are asked for, layer ``i`` from ``(seed, i)`` alone, and only the last
    one stays in memory.

    Parameters
    ----------
    card : its sizes.
    seed : 0 or more.
    layers : only so many layers, all of the card's if None.
    compression : the formats of the weights, int8 if None.

    Raises
    ------
    DesignError
        If the seed is negative, or the card has not so many layers.
    """
    asked = compression or Compression()
    if seed < 0:
        raise DesignError(f"a seed is 0 or more, not {seed}")
    shape = ModelShape.of(card, layers)
    scale = 2.0**-12
    draw = np.random.default_rng([seed, shape.width])
    return QuantModel(
        name=f"{card.name}-random",
        shape=shape,
        layers=LazyLayers(
            shape.layers, lambda i: _random_layer(shape, card, scale, seed, i, asked)
        ),
        ln_f=_random_norm(draw, card, scale),
        head=_random_linear(
            draw, "lm_head", shape.width, shape.vocabulary, _ACTIVATION, _LOGIT, asked, bias=0
        ),
        wte=_random_rows(draw, shape.vocabulary, shape.width),
        wpe=(
            rotary_angles(shape.context, shape.head_size, card.rope_theta)
            if shape.position == "rotary"
            else _random_rows(draw, shape.context, shape.width)
        ),
        scales={"residual": scale, "logits": 2.0**-11},
    )


def _random_layer(
    shape: ModelShape, card: ModelCard, scale: float, seed: int, i: int, asked: Compression
) -> QuantLayer:
    draw = np.random.default_rng([seed, i, 1])
    h, d, f = f"h{i}", shape.width, shape.ffn
    score = _SCORE / SCORE_STEP / (_ACTIVATION**2 * math.sqrt(shape.head_size))
    ln_1 = _random_norm(draw, card, scale)
    turned = ROTARY_STEPS if shape.position == "rotary" else 1.0
    k, v, q = (
        _random_linear(draw, f"{h}.{name}", d, n, _ACTIVATION, _ACTIVATION * steps, asked)
        for name, n, steps in (("k", shape.kv_width, turned), ("v", shape.kv_width, 1.0), ("q", d, turned))
    )  # fmt: skip
    proj = _random_linear(draw, f"{h}.proj", d, d, _CONTEXT, _DELTA, asked)
    ln_2 = _random_norm(draw, card, scale)
    fc1 = _random_linear(draw, f"{h}.fc1", d, f, _ACTIVATION, 1 / GATE_STEP, asked)
    fc2 = _random_linear(draw, f"{h}.fc2", f, d, _HIDDEN, _DELTA, asked)
    up, act = None, scaling(_ACTIVATION * GATE_STEP, "activation")
    if shape.gated:  # both factors of the hidden value are about the root of FACTOR_STEPS apart
        apart = math.sqrt(FACTOR_STEPS * _ACTIVATION)
        up = _random_linear(draw, f"{h}.up", d, f, _ACTIVATION, apart, asked)
        act = scaling(math.sqrt(FACTOR_STEPS * _ACTIVATION) * GATE_STEP, "activation")
    return QuantLayer(
        ln_1=ln_1,
        k=k,
        v=v,
        q=q,
        scores=scaling(score, "scores"),
        context=scaling(1.0, "context", bits=15),
        proj=proj,
        ln_2=ln_2,
        fc1=fc1,
        activation=Activation(act.multiplier, act.shift, GATES[card.activation]),
        fc2=fc2,
        up=up,
    )


def _random_linear(
    draw: np.random.Generator,
    what: str,
    k: int,
    n: int,
    std_in: float,
    std_out: float,
    asked: Compression,
    bias: int = 1,
) -> QuantLinear:
    form = asked.of(what)
    if form == INT8 == asked.stream:
        weight = np.maximum(np.frombuffer(draw.bytes(k * n), np.int8).reshape(k, n), -127)
        acc = std_in * _UNIFORM * math.sqrt(k)
    else:
        form.check_reduction(what, k)
        weight = _random_weight(draw, form, k, n, form.limit_in(asked.stream))
        acc = std_in * float(weight.std()) * math.sqrt(k)
    multiplier, shift = scalings(std_out / acc * draw.uniform(0.7, 1.3, n), what)
    return QuantLinear(
        weight=weight,
        bias=np.rint(draw.normal(0, 0.2 * bias * acc, n)).astype(np.int32),
        multiplier=multiplier.astype(np.uint16),
        shift=shift.astype(np.uint8),
        format=form,
    )


def _random_weight(
    draw: np.random.Generator, form: WeightFormat, k: int, n: int, limit: int
) -> NDArray[np.int8]:
    """Integers that a format holds, int8 [k, n]."""
    if form.bits == 8:
        weight = draw.integers(-limit, limit + 1, (k, n), np.int8)
    else:
        factor = draw.integers(1, FACTORS + 1, (k // form.group, n), np.int8)
        weight = draw.integers(-7, 8, (k, n), np.int8) * factor.repeat(form.group, axis=0)
    if form.block:
        score = draw.random((k // form.block, -(-n // form.block)), np.float32)
        weight = weight * form.in_blocks(score.argsort(axis=0) < form.kept_blocks(k), n)
    if form.sparse:
        score = draw.random((k // form.m, form.m, -(-n // form.share)), np.float32)
        kept = score.argsort(axis=1) < form.n
        weight = weight * kept.repeat(form.share, axis=2)[:, :, :n].reshape(k, n)
    return weight


def _random_norm(draw: np.random.Generator, card: ModelCard, scale: float) -> QuantNorm:
    d = card.width
    gamma = _ACTIVATION * draw.uniform(0.7, 1.3, d)
    beta = draw.normal(0, 0.1 * _ACTIVATION, d)
    if card.norm == "rmsnorm":
        beta[:] = 0
    return _norm("norm", gamma, beta, card.norm_eps, scale)


def _random_rows(draw: np.random.Generator, rows: int, d: int) -> NDArray[np.int16]:
    reach = round(_EMBEDDING * math.sqrt(3))  # uniform: three times as fast as normal
    return draw.integers(-reach, reach + 1, (rows, d), np.int16)
