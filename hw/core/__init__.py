# SPDX-License-Identifier: Apache-2.0
"""The core: program, feeder, drain, buffers, embedding, key/value traffic, and the top that wires them."""
