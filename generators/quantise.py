"""From float weights and calibration to the integers of a design.

The arithmetic that these integers feed is ``sim/golden/ops.py``; the factors are those of
``docs/architecture.md``, section 4. Weights are symmetric int8 per output channel, of which a
compressed format holds some only (``generators/compress.py``); activations have one static scale per
tensor, from what calibration saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
from designs.weight_format import INT8, WeightFormat
from generators.compress import Compression, compress

__all__ = [
    "QuantiseOptions", "check_activation", "quantise", "random_quantised", "scaling", "scalings",
]  # fmt: skip

Weights = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

GATE_STEP = 2.0**-10
"""One step of the argument of a gated activation, ``ops.GATE_FRACTION``."""

SCORE_STEP = 2.0**-8
"""One step of a score, ``ops.SCORE_FRACTION``."""

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
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> QuantModel:
    """Quantise a float model: int8 activations, weights in the formats of ``compression``.

    Parameters
    ----------
    weights : by Hugging Face names, as ``Checkpoint.weights`` returns.
    card : the model.
    ranges : what its tensors held over the calibration text (``sim.calibrate.observe_ranges``).
    options : how scales are chosen.
    compression : how weights are stored; int8, all of them, if None.
    progress : told how many layers are done, of how many.

    Raises
    ------
    DesignError
        If the activation is not supported, calibration lacks a tensor, a factor is out of range, or
        weights do not fit their format.
    """
    check_activation(card)
    chosen = options or QuantiseOptions(), compression or Compression()
    return _Quantiser(weights, card, ranges, *chosen).model(progress)


def check_activation(card: ModelCard) -> None:
    """Raise a DesignError if there is no hardware for the model's activation."""
    if card.activation != "gelu_new":
        raise DesignError(
            f"model {card.name} has activation {card.activation}; supported is gelu_new"
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
    ) -> None:
        self.weights, self.card, self.ranges, self.options = weights, card, ranges, options
        self.compression = compression
        stream = ["embed", *(f"h{i}.add_{n}" for i in range(card.layers) for n in (1, 2))]
        peak = max(ranges[name].peak for name in stream)
        tables = max(float(np.abs(self.tensor(t)).max()) for t in ("wte.weight", "wpe.weight"))
        residual = max(peak * options.headroom, tables) / 32767
        self.scales = {"residual": residual or 1.0}

    def tensor(self, name: str) -> Floats:
        return np.asarray(self.weights[name], np.float64)

    def model(self, progress: Callable[[int, int], object]) -> QuantModel:
        card, residual = self.card, self.scales["residual"]
        head = self.tensor("wte.weight" if card.tied_head else "lm_head.weight").T
        layers = []
        for i in range(card.layers):
            layers.append(self.layer(i))
            progress(i + 1, card.layers)
        smooth = self.smooth("ln_f", head)
        ln_f = self.norm("ln_f", "ln_f", smooth)
        out = self.ranges["lm_head"].peak * self.options.headroom / 32767 or 1.0
        self.scales["logits"] = out
        return QuantModel(
            name=card.name,
            shape=ModelShape.of(card),
            layers=tuple(layers),
            ln_f=ln_f,
            head=self.linear("lm_head", "ln_f", head, 0.0, out, smooth),
            wte=_int16(self.tensor("wte.weight") / residual),
            wpe=_int16(self.tensor("wpe.weight") / residual),
            scales=self.scales,
        )

    def layer(self, i: int) -> QuantLayer:
        h, card, scales = f"h{i}", self.card, self.scales
        residual = scales["residual"]
        w_q, w_k, w_v = np.split(self.tensor(f"h.{i}.attn.c_attn.weight"), 3, axis=1)
        b_q, b_k, b_v = np.split(self.tensor(f"h.{i}.attn.c_attn.bias"), 3)
        w_1 = self.tensor(f"h.{i}.mlp.c_fc.weight")

        smooth_1 = self.smooth(f"{h}.ln_1", np.concatenate([w_q, w_k, w_v], axis=1))
        ln_1 = self.norm(f"{h}.ln_1", f"h.{i}.ln_1", smooth_1)
        for name in ("k", "v", "q", "context", "gelu"):
            scales[f"{h}.{name}"] = self.scale(self.ranges[f"{h}.{name}"])
        qkv = {
            name: self.linear(f"{h}.{name}", f"{h}.ln_1", w, b, scales[f"{h}.{name}"], smooth_1)
            for name, w, b in (("k", w_k, b_k), ("v", w_v, b_v), ("q", w_q, b_q))
        }
        smooth_2 = self.smooth(f"{h}.ln_2", w_1)
        ln_2 = self.norm(f"{h}.ln_2", f"h.{i}.ln_2", smooth_2)
        score = scales[f"{h}.q"] * scales[f"{h}.k"] * card.head_size**-0.5 * math.log2(math.e)
        gelu = scaling(GATE_STEP / scales[f"{h}.gelu"], f"{h}.gelu")
        return QuantLayer(
            ln_1=ln_1,
            **qkv,
            scores=scaling(score / SCORE_STEP, f"{h}.scores"),
            context=scaling(scales[f"{h}.v"] / scales[f"{h}.context"], f"{h}.context", bits=15),
            proj=self.linear(
                f"{h}.proj",
                f"{h}.context",
                self.tensor(f"h.{i}.attn.c_proj.weight"),
                self.tensor(f"h.{i}.attn.c_proj.bias"),
                residual,
            ),
            ln_2=ln_2,
            fc1=self.linear(
                f"{h}.fc1",
                f"{h}.ln_2",
                w_1,
                self.tensor(f"h.{i}.mlp.c_fc.bias"),
                GATE_STEP,
                smooth_2,
            ),
            activation=Activation(gelu.multiplier, gelu.shift, "gelu"),
            fc2=self.linear(
                f"{h}.fc2",
                f"{h}.gelu",
                self.tensor(f"h.{i}.mlp.c_proj.weight"),
                self.tensor(f"h.{i}.mlp.c_proj.bias"),
                residual,
            ),
        )

    def linear(
        self,
        what: str,
        source: str,
        weight: Floats,
        bias: Floats | float,
        scale_out: float,
        smooth: Floats | float = 1.0,
    ) -> QuantLinear:
        """Quantise a linear layer [k, n] behind the tensor ``source``, which was divided by ``smooth``."""
        k, n = weight.shape
        smooth = np.broadcast_to(np.asarray(smooth, np.float64), (k,))
        weight = weight * smooth[:, None]
        bias = np.broadcast_to(np.asarray(bias, np.float64), (n,))
        scale_in, stream = self.scales[source], self.compression.stream
        least = _least_scale(what, k, bias, scale_in, scale_out)
        form = self.compression.of(what)
        if form == INT8 == stream:
            scale = np.maximum(np.abs(weight).max(axis=0) / 127, least)
            integers = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
        else:
            inputs = self.ranges[source].rows.reshape(-1, k) / smooth
            integers, scale = compress(
                what, weight, form, self.compression.method, inputs, least,
                limit=form.limit_in(stream),
            )  # fmt: skip
        return _linear(what, integers, scale, bias, scale_in, scale_out, form)

    def norm(self, name: str, source: str, smooth: Floats) -> QuantNorm:
        """A norm whose feature ``j`` is divided by ``smooth[j]``."""
        seen = self.ranges[name]
        factor = (1 / smooth).astype(np.float32)
        scale = self.scale(Observed(seen.maximum * factor, seen.rows * factor))
        self.scales[name] = scale
        gamma = self.tensor(f"{source}.weight") / smooth / scale
        beta = self.tensor(f"{source}.bias") / smooth / scale
        return _norm(name, gamma, beta, self.card.layernorm_eps, self.scales["residual"])

    def smooth(self, name: str, behind: Floats) -> Floats:
        """By how much to divide each feature of a norm, [d]; ``behind`` is its reader, [d, n]."""
        alpha = self.options.smoothing
        outer = self.ranges[name].maximum.astype(np.float64)
        inner = np.abs(behind).max(axis=1)
        if alpha == 0 or not (outer > 0).all() or not (inner > 0).all():
            return np.ones(behind.shape[0])
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


def random_quantised(card: ModelCard, seed: int, layers: int | None = None) -> QuantModel:
    """A model of random integers whose activations neither vanish nor saturate.

    Layers are made when they are asked for, layer ``i`` from ``(seed, i)`` alone, and only the last
    one stays in memory.

    Parameters
    ----------
    card : its sizes.
    seed : 0 or more.
    layers : only so many layers, all of the card's if None.

    Raises
    ------
    DesignError
        If the seed is negative, or the card has not so many layers.
    """
    if seed < 0:
        raise DesignError(f"a seed is 0 or more, not {seed}")
    shape = ModelShape.of(card, layers)
    scale = 2.0**-12
    draw = np.random.default_rng([seed, shape.width])
    return QuantModel(
        name=f"{card.name}-random",
        shape=shape,
        layers=LazyLayers(
            shape.layers, lambda i: _random_layer(shape, card.layernorm_eps, scale, seed, i)
        ),
        ln_f=_random_norm(draw, shape.width, card.layernorm_eps, scale),
        head=_random_linear(
            draw, "lm_head", shape.width, shape.vocabulary, _ACTIVATION, _LOGIT, bias=0
        ),
        wte=_random_rows(draw, shape.vocabulary, shape.width),
        wpe=_random_rows(draw, shape.context, shape.width),
        scales={"residual": scale, "logits": 2.0**-11},
    )


def _random_layer(shape: ModelShape, eps: float, scale: float, seed: int, i: int) -> QuantLayer:
    draw = np.random.default_rng([seed, i, 1])
    d, f = shape.width, shape.ffn
    score = _SCORE / SCORE_STEP / (_ACTIVATION**2 * math.sqrt(shape.head_size))
    gelu = scaling(_ACTIVATION * GATE_STEP, "activation")
    ln_1 = _random_norm(draw, d, eps, scale)
    k, v, q = (_random_linear(draw, n, d, d, _ACTIVATION, _ACTIVATION) for n in "kvq")
    return QuantLayer(
        ln_1=ln_1,
        k=k,
        v=v,
        q=q,
        scores=scaling(score, "scores"),
        context=scaling(1.0, "context", bits=15),
        proj=_random_linear(draw, "proj", d, d, _CONTEXT, _DELTA),
        ln_2=_random_norm(draw, d, eps, scale),
        fc1=_random_linear(draw, "fc1", d, f, _ACTIVATION, 1 / GATE_STEP),
        activation=Activation(gelu.multiplier, gelu.shift, "gelu"),
        fc2=_random_linear(draw, "fc2", f, d, _HIDDEN, _DELTA),
    )


def _random_linear(
    draw: np.random.Generator,
    what: str,
    k: int,
    n: int,
    std_in: float,
    std_out: float,
    bias: int = 1,
) -> QuantLinear:
    weight = np.frombuffer(draw.bytes(k * n), np.int8).reshape(k, n)
    acc = std_in * _UNIFORM * math.sqrt(k)
    multiplier, shift = scalings(std_out / acc * draw.uniform(0.7, 1.3, n), what)
    return QuantLinear(
        weight=np.maximum(weight, -127),
        bias=np.rint(draw.normal(0, 0.2 * bias * acc, n)).astype(np.int32),
        multiplier=multiplier.astype(np.uint16),
        shift=shift.astype(np.uint8),
    )


def _random_norm(draw: np.random.Generator, d: int, eps: float, scale: float) -> QuantNorm:
    gamma = _ACTIVATION * draw.uniform(0.7, 1.3, d)
    return _norm("norm", gamma, draw.normal(0, 0.1 * _ACTIVATION, d), eps, scale)


def _random_rows(draw: np.random.Generator, rows: int, d: int) -> NDArray[np.int16]:
    reach = round(_EMBEDDING * math.sqrt(3))  # uniform: three times as fast as normal
    return draw.integers(-reach, reach + 1, (rows, d), np.int16)
