"""Each level of tuning on the CPU: the same outputs, by the ways that it may take."""

from __future__ import annotations

import pytest

from tests.images.workshop import check, cpu_workshop

TOLERANCE = 1e-3


@pytest.mark.framework
@pytest.mark.parametrize(("image", "variant"), [("torch", "torch"), ("onnxrt", "onnxrt")])
def test_levels_agree_and_say_what_they_did(tmp_path, image, variant):
    on_cpu = cpu_workshop(image, tmp_path)
    model = on_cpu.make(17)
    reported = {}
    for level in ("stock", "tuned", "rewritten"):
        facts = on_cpu.exercise(variant, model, batches=(2,), level=level)
        check(facts, TOLERANCE)
        reported[level] = facts["settings"]
    if variant == "torch":
        assert reported["stock"]["layout"] == "as imported"
        assert all("convolutions" not in reported[level] for level in ("stock", "tuned"))
        assert "own convolutions" in reported["rewritten"]["trial"]
    else:
        assert all("hard-swish" not in reported[level]["model"] for level in ("stock", "tuned"))
        assert reported["stock"]["graph_optimization"] == "onnxruntime's default"
        assert "as in the tutorial" in reported["tuned"]["ways_tried"]
