# SPDX-License-Identifier: Apache-2.0
"""The error of everything below designs/."""

from __future__ import annotations


class DesignError(Exception):
    """A mistake in what was asked for: a card, a model, a checkpoint, a text.

    The message is one line that says what is wrong, where, and what would be right. The command
    line prints it and exits with code 2.
    """
