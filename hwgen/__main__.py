# SPDX-License-Identifier: Apache-2.0
"""``python -m hwgen`` is ``hwgen``."""

from hwgen.cli import main

if __name__ == "__main__":
    main()
