# SPDX-License-Identifier: Apache-2.0
"""What can be asked for: models, targets, checkpoints, texts; no hardware."""
