# SPDX-License-Identifier: Apache-2.0
"""Golden models: numpy only; they never see the hardware they judge."""
