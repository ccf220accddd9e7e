# SPDX-License-Identifier: Apache-2.0
"""When each operation runs: schedules as checked values."""
