"""Every test that docs/known-pitfalls.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tests_that_the_table_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/.]+\.py)`", (ROOT / "docs/known-pitfalls.md").read_text())
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).is_file()] == []
