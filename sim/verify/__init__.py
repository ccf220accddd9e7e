# SPDX-License-Identifier: Apache-2.0
"""Grades the verification of any Verilog module: properties, proofs, mutants, a grade."""
