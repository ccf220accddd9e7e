# SPDX-License-Identifier: Apache-2.0
"""hwgen: a generator of neural-network accelerators."""

import sys
from pathlib import Path

__version__ = "0.1.0"

_wheel = Path(__file__).parent / "lib"
if _wheel.is_dir():  # a wheel keeps the wings here; in a checkout they are this folder's siblings
    sys.path.insert(0, str(_wheel))
