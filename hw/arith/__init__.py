"""Arithmetic below the level of `*`: digits, partial products, carry-save compression, adders."""
