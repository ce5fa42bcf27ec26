"""Each level of tuning on the CPU: the same outputs, by the ways that it may take."""

from __future__ import annotations

import pytest

from tests.images.workshop import check, cpu_workshop, exercise

TOLERANCE = 1e-3


@pytest.mark.framework
@pytest.mark.parametrize(("image", "variant"), [("torch", "torch"), ("onnxrt", "onnxrt")])
def test_levels_agree_and_say_what_they_did(tmp_path, small_onnx, image, variant):
    on_cpu = cpu_workshop(image, tmp_path, small_onnx)
    model = on_cpu.make(17)
    told = {}
    levels = ("stock", "tuned", "rewritten")
    answers = on_cpu.ask_all({level: exercise(variant, model, batches=(2,), level=level) for level in levels})
    for level, facts in answers.items():
        check(facts, TOLERANCE)
        told[level] = facts["settings"]
    if variant == "torch":
        assert told["stock"]["layout"] == "as imported"
        assert all("convolutions" not in told[level] for level in ("stock", "tuned"))
        assert "own convolutions" in told["rewritten"]["trial"]
    else:
        assert all("hard-swish" not in told[level]["model"] for level in ("stock", "tuned"))
        assert told["stock"]["graph_optimization"] == "onnxruntime's default"
        assert "as in the tutorial" in told["tuned"]["ways_tried"]
