"""Special function units: what happens to numbers outside the engine."""
