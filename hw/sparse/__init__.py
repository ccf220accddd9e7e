# SPDX-License-Identifier: Apache-2.0
"""Engines that multiply only the weights that are kept."""
