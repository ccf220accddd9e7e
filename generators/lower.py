"""From a model to the scheduler's problem, and from a schedule to the hardware's program."""

from __future__ import annotations

from hw.core.config import CoreConfig
from hw.core.program import Destination, Op, Program, Step
from schedules.schedule import Schedule

__all__ = ["program"]


def program(schedule: Schedule | None, config: CoreConfig) -> Program:
    """The steps that a core plays.

    Parameters
    ----------
    schedule : what to play; None for the order of a GPT-2 layer
    config : the core
    """
    d, tiles = config.width_words, config.width // config.lanes
    norm = {"source": config.norm_base, "source_stride": d}
    by_width = {"k_words": d, "n_tiles": tiles}
    embed = Step(name="embed", op=Op.EMBED)
    layer = (
        Step(name="ln_1", op=Op.NORM),
        Step(name="k", op=Op.MATMUL, destination=Destination.KEY, **norm, **by_width),
        Step(
            name="v", op=Op.MATMUL, wait=False, fetch=True,
            destination=Destination.VALUE, **norm, **by_width,
        ),
        Step(
            name="q", op=Op.MATMUL, wait=False, destination=Destination.ACTIVATION,
            target=config.query_base, target_stride=d, **norm, **by_width,
        ),
        Step(name="attention", op=Op.ATTENTION, constant=True),
        Step(
            name="proj", op=Op.MATMUL, source=config.context_base, source_stride=d,
            destination=Destination.RESIDUAL, **by_width,
        ),
        Step(name="ln_2", op=Op.NORM),
        Step(
            name="fc1", op=Op.MATMUL, constant=True, destination=Destination.GATED,
            target=config.hidden_base, target_stride=config.ffn_words,
            k_words=d, n_tiles=config.ffn_words, **norm,
        ),
        Step(
            name="fc2", op=Op.MATMUL, layer_end=True, destination=Destination.RESIDUAL,
            source=config.hidden_base, source_stride=config.ffn_words,
            k_words=config.ffn_words, n_tiles=tiles,
        ),
    )  # fmt: skip
    head = (
        Step(name="ln_f", op=Op.NORM, last_token=True, head=True),
        Step(
            name="lm_head", op=Op.MATMUL, last_token=True, head=True,
            destination=Destination.LOGIT, k_words=d, n_tiles=config.vocabulary_tiles, **norm,
        ),
    )  # fmt: skip
    return Program(steps=(embed, *layer, *head), layer_start=1)
