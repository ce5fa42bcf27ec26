"""What a library says is told in one line, without its source."""

from __future__ import annotations

import pytest

from common.export.error_lines import first_line


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
        ("x" * 1000, "x" * 397 + "..."),
    ],
)
def test_first_line(text: str, line: str) -> None:
    assert first_line(RuntimeError(text)) == line
