"""`invoke demo`: the main job, small enough for a laptop."""

from __future__ import annotations

from common.host.plan.options import Options

FRAMEWORKS = "tf,tfxla,keras,kerasxla,onnxrt,openvino,torch"


def demo_options() -> Options:
    """Windows of a second and a cap of 45 s a cell: a first look in minutes, with intervals as wide as they are."""
    return Options(
        framework=FRAMEWORKS,
        device="cpu",
        batch_sizes="1,8,32",
        quick=True,
        runner="local",
        settings={
            "min_seconds": 1.0, "max_seconds": 3.0, "warmup_max_seconds": 1.0, "idle_seconds": 0.2,
            "cell_timeout_s": 45.0, "min_samples": 5,
        },
    )  # fmt: skip
