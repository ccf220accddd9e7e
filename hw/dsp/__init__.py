# SPDX-License-Identifier: Apache-2.0
"""Multipliers of FPGAs as explicit instances: the DSP48E2, and how several products share one."""
