"""Lines of keys, whatever way TOML lets people write them."""

from __future__ import annotations

from common.host.plan.toml_lines import lines_of

TEXT = '''# a comment with [brackets] = and an equals sign

name = "x"
"batch_sizes" = [
  8,   # sweep = 1
  16,
]
description = """
[[sweep]]
framework = "no key: text"
"""
settings.min_samples = 5

[[sweep]]
  framework = ["a",
               "b"]
[sweep.settings]
min_samples = 7
[[sweep]]
io = 'host'
settings = { trace_runs = 3, min_samples = 4 }
'''


def test_each_key_by_its_first_line() -> None:
    assert lines_of(TEXT) == {
        ("name",): 3,
        ("batch_sizes",): 4,
        ("description",): 8,
        ("settings", "min_samples"): 12,
        ("settings",): 12,
        ("sweep", 0): 14,
        ("sweep", 0, "framework"): 15,
        ("sweep", 0, "settings"): 17,
        ("sweep", 0, "settings", "min_samples"): 18,
        ("sweep", 1): 19,
        ("sweep", 1, "io"): 20,
        ("sweep", 1, "settings"): 21,
        ("sweep", 1, "settings", "trace_runs"): 21,
        ("sweep", 1, "settings", "min_samples"): 21,
    }


def test_lines_that_end_as_on_windows() -> None:
    assert lines_of('a = 1\r\n\r\nb = [\r\n1]\r\nc = "x"\r\n') == {("a",): 1, ("b",): 3, ("c",): 5}
