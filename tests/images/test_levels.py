"""Each level of tuning on the CPU: the same outputs, by the ways that it may take."""

from __future__ import annotations

import json

import pytest

from tests.images.workshop import check, cpu_workshop, exercise

TOLERANCE = 1e-3


@pytest.mark.framework
@pytest.mark.parametrize(("image", "variant"), [("torch", "torch"), ("onnxrt", "onnxrt")])
def test_levels_agree_and_say_what_they_did(tmp_path, small_onnx, image, variant):
    on_cpu = cpu_workshop(image, tmp_path, small_onnx)
    model = on_cpu.make(17)
    reported = {}
    levels = ("stock", "tuned", "rewritten")
    answers = on_cpu.ask_all({level: exercise(variant, model, batches=(2,), level=level) for level in levels})
    for level, facts in answers.items():
        check(facts, TOLERANCE)
        reported[level] = facts["settings"]
    if variant == "torch":
        assert reported["stock"]["layout"] == "as imported"
        assert all("convolutions" not in reported[level] for level in ("stock", "tuned"))
        assert "own convolutions" in reported["rewritten"]["trial"]
        # with copies and without is one to it on the CPU: what was tried for the one is not tried again for the other
        kept = json.loads((tmp_path / "cache/torch/choices.json").read_text())
        assert (
            len(
                [
                    key
                    for key, value in kept.items()
                    if value["chosen"] == reported["tuned"]["chosen"] and " tuned " in key
                ]
            )
            == 1
        )
    else:
        assert all("hard-swish" not in reported[level]["model"] for level in ("stock", "tuned"))
        assert reported["stock"]["graph_optimization"] == "onnxruntime's default"
        assert "as in the tutorial" in reported["tuned"]["ways_tried"]
