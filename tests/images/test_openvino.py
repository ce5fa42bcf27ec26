"""OpenVINO's adapter on the CPU: the contract, the two hints, and what it refuses."""

from pathlib import Path

import pytest

from tests.images.workshop import Workshop, check, cpu_workshop

FP32_TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory, small_onnx: Path) -> Workshop:
    return cpu_workshop("openvino", tmp_path_factory.mktemp("openvino"), small_onnx)


@pytest.fixture(scope="module")
def model(on_cpu: Workshop) -> Path:
    return on_cpu.make(17)


@pytest.mark.framework
def test_outputs_agree_in_fp32(on_cpu, model):
    facts = on_cpu.exercise("openvino", model)
    check(facts, FP32_TOLERANCE)
    assert facts["settings"]["performance_hint"] == "LATENCY"
    assert facts["settings"]["inference_precision"] == "f32"
    assert facts["settings"]["threads"] == "2"
    assert facts["peak"] is None
    assert facts["versions"]["openvino_build"].startswith(facts["versions"]["framework"])


@pytest.mark.framework
@pytest.mark.parametrize("scenario", ["offline", "multi-stream"])
def test_many_inferences_at_once_are_compiled_for_throughput(on_cpu, model, scenario):
    facts = on_cpu.exercise("openvino", model, batches=(8,), expect={"scenario": scenario, "streams": 2})
    check(facts, FP32_TOLERANCE)
    assert facts["settings"]["performance_hint"] == "THROUGHPUT"
    wanted = 1 if scenario == "multi-stream" else 2  # each stream has an adapter of its own, with one request
    assert int(facts["settings"]["requests"]) >= wanted


@pytest.mark.framework
def test_streams_of_a_process_share_one_compiled_model(on_cpu, model):
    facts = on_cpu.ask(action="two_adapters", model=str(model), variant="openvino")
    assert facts["same_compiled_model"] is True
    assert facts["rel_l2"] < FP32_TOLERANCE


@pytest.mark.framework
def test_what_it_does_not_run_is_refused_by_name(on_cpu):
    cells = [(precision, "cpu") for precision in ("fp32", "fp16", "int8", "bf16")] + [("fp32", "cuda:0")]
    refusals = on_cpu.ask(action="refusals", variant="openvino", cells=cells)
    assert refusals["fp32 cpu"] is None
    assert "not fp16" in refusals["fp16 cpu"] and "not int8" in refusals["int8 cpu"]
    assert "NVIDIA" in refusals["fp32 cuda:0"]
    assert refusals["bf16 cpu"] is None or "no instructions for bf16" in refusals["bf16 cpu"]


@pytest.mark.framework
def test_bf16_is_within_its_tolerance_where_the_cpu_has_it(on_cpu, model):
    facts = on_cpu.exercise("openvino", model, precision="bf16")
    if facts["refusal"]:
        pytest.skip(facts["refusal"])
    check(facts, HALF_TOLERANCE)
    assert facts["settings"]["inference_precision"] == "bf16"


@pytest.mark.framework
def test_a_file_that_is_no_onnx_is_unsupported(on_cpu, model, tmp_path):
    for name in ("model.json", "reference.npz"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"not a protobuf at all")
    facts = on_cpu.exercise("openvino", tmp_path)
    assert facts["unsupported"].startswith("OpenVINO cannot read this model")
    assert "\n" not in facts["unsupported"]


@pytest.mark.framework
@pytest.mark.parametrize(("level", "slow_first"), [("stock", True), ("tuned", False)])
def test_operators_are_those_of_the_recorded_inferences_alone(on_cpu, model, level, slow_first):
    """OpenVINO's counters are means since the compilation; the slow inferences before the window are none of its."""
    facts = on_cpu.ask(action="operators", model=str(model), variant="openvino", level=level, slow_first=slow_first)
    assert facts["inferences"] == [0, 1, 2, 3, 4]
    assert "not when" in facts["message"]
    assert "did not fit" not in facts["message"]
