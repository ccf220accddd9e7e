# SPDX-License-Identifier: Apache-2.0
"""Where the wings meet: what a build needs from the simulation wing."""

from generators.build import Joins

__all__ = ["joins"]


def joins() -> Joins:
    """The functions that ``generators.build.build`` takes from ``sim``."""
    from sim.calibrate import observe_ranges
    from sim.package import emit_package

    return Joins(observe_ranges=observe_ranges, simulation_package=emit_package)
