from __future__ import annotations

import subprocess
import sys

import pytest

from common.host.paths import ROOT
from common.stats.student_t import two_sided_p, two_sided_quantile


def test_a_quantile_and_its_probability_are_each_others_inverse() -> None:
    assert two_sided_quantile(0.95, 2) == pytest.approx(4.303, abs=5e-4)
    assert two_sided_p(two_sided_quantile(0.95, 2.5), 2.5) == pytest.approx(0.05)


def test_no_command_waits_for_scipy_before_it_is_asked_for_an_interval() -> None:
    """Its special functions take as long to import as all the rest of a command."""
    code = "import sys, tasks; print([name for name in ('scipy', 'matplotlib', 'duckdb') if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"
