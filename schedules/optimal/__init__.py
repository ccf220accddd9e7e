# SPDX-License-Identifier: Apache-2.0
"""Optimal static schedules of task graphs on several units: the problem, its solvers, and a check of what they say."""
