# SPDX-License-Identifier: Apache-2.0
"""Properties proposed by language models: their replies are data, checked like anybody's."""
