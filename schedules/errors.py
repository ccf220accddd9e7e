# SPDX-License-Identifier: Apache-2.0
"""The error of everything below schedules/."""

from __future__ import annotations

__all__ = ["ScheduleError"]


class ScheduleError(Exception):
    """A schedule, or the problem it should solve, that cannot be.

    The message is one sentence that names the phase, task, tensor or buffer at fault.
    """
