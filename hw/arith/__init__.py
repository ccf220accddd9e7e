# SPDX-License-Identifier: Apache-2.0
"""Arithmetic below the level of `*`: digits, partial products, carry-save compression, adders."""
