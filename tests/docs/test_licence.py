# SPDX-License-Identifier: Apache-2.0
"""Every source of ours says its licence."""

import subprocess

from tests.bench import ROOT

MARKS = {".py": "# ", ".v": "// ", ".h": "// ", ".cpp": "// "}
LICENCE = "SPDX-License-Identifier: Apache-2.0"


def test_sources_name_their_licence() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in MARKS and path.is_file():
            head = path.read_text(encoding="utf-8").splitlines()[:2]
            assert MARKS[path.suffix] + LICENCE in head, name
