"""Engines that multiply only the weights that are kept."""
