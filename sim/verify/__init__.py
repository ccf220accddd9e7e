"""Grades the verification of any Verilog module: properties, proofs, mutants, a grade."""
