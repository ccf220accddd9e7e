# SPDX-License-Identifier: Apache-2.0
"""HLS C++ of kernels: the network of processes that plays a plan, and its files."""
