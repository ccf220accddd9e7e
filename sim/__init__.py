# SPDX-License-Identifier: Apache-2.0
"""Does it do what numpy does: golden models, simulation, measurement."""
