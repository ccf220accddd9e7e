# SPDX-License-Identifier: Apache-2.0
"""Whole requests over many iterations: arrivals, admission, growing contexts, time to the tokens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from sim.pim.system import CHANNELS, Design, layer_time
from sim.pim.workload import LIMIT, Decoder, exchanges

__all__ = ["CAPACITY", "Service", "check_fit", "serve"]

CAPACITY = CHANNELS << 30
"""Bytes of a device: 1 GiB a channel."""
FLOPS = 262e3
"""Operations of an NPU in a ns, at its peak: 8 arrays of 128 x 128."""


@dataclass(frozen=True)
class Service:
    """How requests were served; times in ms.

    Attributes
    ----------
    requests, iterations, seconds : how many; of the whole run.
    tokens_per_second : generated.
    first_token, per_token : quantiles 50, 90 and 99 % over requests.
    batch : mean over iterations.
    waited_for_memory : iterations in which a request could not be admitted.
    """

    requests: int
    iterations: int
    seconds: float
    tokens_per_second: float
    first_token: tuple[float, float, float]
    per_token: tuple[float, float, float]
    batch: float
    waited_for_memory: int


def check_fit(model: Decoder, lengths: NDArray[np.int64] | list[int]) -> None:
    """Raise DesignError unless weights and the keys and values of a batch fit on a device."""
    weights, each = model.weight_bytes, [model.kv_bytes(int(n)) for n in lengths]
    kv, channel = sum(each), (CAPACITY - weights) // CHANNELS
    if weights + kv > CAPACITY:
        raise DesignError(
            f"{model.name} does not fit: {weights:,} bytes of weights and {kv:,} of keys and values "
            f"on each of {model.tensor * model.pipeline} devices, which have {CAPACITY:,}"
        )
    if max(each) > channel:
        raise DesignError(
            f"{model.name}: a context of {max(lengths):,} tokens takes {max(each):,} bytes of one "
            f"channel, which has {channel:,} beside the weights"
        )


def serve(
    design: Design, model: Decoder, dataset: str, requests: int, rate: float, batch: int, seed: int
) -> Service:
    """Serve requests that arrive at random.

    An iteration gives one token to each request at work; it takes all layers, each as long as
    :func:`sim.pim.system.layer_time` says, evaluated anew when the batch or its contexts have changed
    by more than a few tokens. Prompts of admitted requests are computed at the peak of the arrays, in the
    same iteration. A request is admitted when its prompt and its answer fit in the memory.

    Parameters
    ----------
    rate : requests a second. batch : most requests at work.
    """
    rng = np.random.default_rng(seed)
    sizes = exchanges(dataset, requests, rng)
    prompt, answer = sizes.T
    answer = np.maximum(1, np.minimum(answer, LIMIT - prompt))
    arrival = np.cumsum(rng.exponential(1e9 / rate, requests))
    room = CAPACITY - model.weight_bytes
    check_fit(model, [int((prompt + answer).max())])
    parameters = model.weight_bytes / 2
    now, waiting, iterations, blocked, sum_batch = 0.0, 0, 0, 0, 0
    at_work: list[int] = []
    left, start, end = answer.copy(), np.zeros(requests), np.zeros(requests)
    used, known, layer = 0, (-1, -1), 0.0
    while waiting < requests or at_work:
        if not at_work and arrival[waiting] > now:
            now = arrival[waiting]
        fresh = 0
        while waiting < requests and arrival[waiting] <= now and len(at_work) < batch:
            need = model.kv_bytes(int(prompt[waiting] + answer[waiting]))
            if used + need > room:
                blocked += 1
                break
            used += need
            at_work.append(waiting)
            fresh += int(prompt[waiting])
            waiting += 1
        lengths = np.array([prompt[i] + answer[i] - left[i] + 1 for i in at_work])
        key = (len(at_work), int(lengths.sum()) // (8 * len(at_work)))
        if key != known:
            rounded = np.maximum(16, -(-lengths // 16) * 16)  # a step of the multipliers
            known, layer = key, layer_time(design, model, rounded).cycles
        now += layer * -(-model.layers // model.pipeline) * model.pipeline
        now += 2 * parameters * fresh / FLOPS
        iterations, sum_batch = iterations + 1, sum_batch + len(at_work)
        for i in at_work:
            if left[i] == answer[i]:
                start[i] = now
            left[i] -= 1
            if left[i] == 0:
                end[i] = now
                used -= model.kv_bytes(int(prompt[i] + answer[i]))
        at_work = [i for i in at_work if left[i]]
    several = answer > 1
    first = (start - arrival) / 1e6
    each = ((end - start)[several] / (answer[several] - 1)) / 1e6

    def quantiles(x: NDArray[np.float64]) -> tuple[float, float, float]:
        a, b, c = np.quantile(x, (0.5, 0.9, 0.99))
        return float(a), float(b), float(c)

    return Service(
        requests, iterations, now / 1e9, float(answer.sum()) / now * 1e9, quantiles(first),
        quantiles(each if len(each) else np.zeros(1)), sum_batch / iterations, blocked,
    )  # fmt: skip
