# SPDX-License-Identifier: Apache-2.0
"""What it runs on: components with typed signatures."""
