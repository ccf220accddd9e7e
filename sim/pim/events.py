# SPDX-License-Identifier: Apache-2.0
"""Time of the channels of a system, event by event, compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["arrivals", "channel_times"]


@njit(cache=True)
def channel_times(
    first: NDArray[np.int64],
    cost: NDArray[np.float64],
    promise: NDArray[np.float64],
    arrival: NDArray[np.float64],
    gap: float,
    lost: float,
) -> NDArray[np.float64]:  # pragma: no cover (compiled)
    """When each channel has finished its sequences.

    A sequence begins only if its promise fits before the next refresh is due, and after a refresh.

    Parameters
    ----------
    first : of the sequences of each channel, and the number of all: ``[channels + 1]``.
    cost, promise : cycles of each sequence.
    arrival : when its last command is there.
    gap, lost : cycles between refreshes, and that a refresh takes from when it is due.
    """
    ends = np.zeros(len(first) - 1)
    for channel in range(len(first) - 1):
        now, due = 0.0, gap
        for i in range(first[channel], first[channel + 1]):
            while now + promise[i] >= due:
                now = max(now, due) + lost
                due += gap
            now = max(now + cost[i], arrival[i])
        ends[channel] = now
    return ends


def arrivals(first: NDArray[np.int64], commands: NDArray[np.int64], width: int) -> NDArray[np.float64]:  # fmt: skip
    """When the last command of each sequence arrives, if one front end serves all channels in turns.

    Parameters
    ----------
    first : as of :func:`channel_times`.
    commands : of each sequence.
    width : commands a cycle of the front end; 0: all of them are there at once.
    """
    times = np.zeros(len(commands))
    if width == 0:
        return times
    channels = [slice(first[c], first[c + 1]) for c in range(len(first) - 1)]
    totals = np.array([commands[c].sum() for c in channels])
    for c in channels:
        done = np.cumsum(commands[c])
        times[c] = np.minimum(done[:, None], totals[None]).sum(axis=1) / width
    return times
