# SPDX-License-Identifier: Apache-2.0
"""Design-space exploration: what may be asked for, what it costs, which designs nothing else beats."""
