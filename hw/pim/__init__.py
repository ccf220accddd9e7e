# SPDX-License-Identifier: Apache-2.0
"""Memory that computes: a channel of DRAM banks with multipliers beside a second row buffer."""
