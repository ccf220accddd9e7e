"""Memory that computes: a channel of DRAM banks with multipliers beside a second row buffer."""
