"""What a library says is told in one line, without its source."""

from __future__ import annotations

import time

import pytest

from common.export import error_lines
from common.export.error_lines import words_of


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo", "one"),
        ("", "RuntimeError"),
        (
            "Load model from op99.onnx failed:/onnxruntime_src/onnxruntime/core/graph/model_load_utils.h:46 void onnxruntime::"
            "model_load_utils::ValidateOpsetForDomain(const std::unordered_map<std::__cxx11::basic_string<char>, int>&, bool, "
            "const std::function<void(int)>&) Opset 99 is under development",
            "Load model from op99.onnx failed: Opset 99 is under development",
        ),
        (
            "Status Message: concatbase.h:133 PrepareForComputeImpl Non concat axis dimensions (of 2) must match",
            "Status Message: Non concat axis dimensions (of 2) must match",
        ),
        (
            "Status Message: /onnxruntime_src/a.cc:7 Status onnxruntime::Foo::operator()(int) const it failed",
            "Status Message: it failed",
        ),
        ("x" * 1000, "x" * 397 + "..."),
    ],
)
def test_the_words_of_an_error(text: str, line: str) -> None:
    assert words_of(RuntimeError(text)) == line


@pytest.mark.parametrize("text", ["x" * 200_000, "a/" * 100_000, "a.h:" * 50_000, "a.h:1" * 40_000, "(" * 200_000])
def test_a_long_line_is_cut_before_it_is_searched(text: str) -> None:
    """The names in a user's file may be of any length; the pattern alone took 3 s for 8,000 letters."""
    began_s = time.process_time()
    assert len(words_of(RuntimeError(text))) == 400
    assert time.process_time() - began_s < 1.0


@pytest.mark.parametrize("token", ["x", "a/", "x.", "a.h:1", "/a.h"])
def test_the_search_for_a_place_is_linear(token: str) -> None:
    """Ten times the text takes about ten times as long; a search that is quadratic takes a hundred times as long."""

    def least_s(count: int) -> float:
        text = token * count
        times_s = []
        for _ in range(3):
            began_s = time.process_time()
            error_lines._PLACE.search(text)
            times_s.append(time.process_time() - began_s)
        return min(times_s)

    assert least_s(40_000) < 40 * least_s(4_000)
