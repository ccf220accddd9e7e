# SPDX-License-Identifier: Apache-2.0
"""Special function units: what happens to numbers outside the engine."""
