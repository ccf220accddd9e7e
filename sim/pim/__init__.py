# SPDX-License-Identifier: Apache-2.0
"""A PIM channel in software: its rules, its controller, its simulation as RTL, and the system around it."""
