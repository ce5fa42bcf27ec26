"""What the frameworks' own profilers tell, brought to one table: profiles of known content."""

from __future__ import annotations

import pytest

from common.harness.tracing import CannotTrace
from images.onnxrt import operator_profile as onnxrt
from images.openvino import operator_profile as openvino
from images.tensorflow import operator_profile as tensorflow
from images.torch import operator_profile as torch

WALLS = [(1_000_000, 2_000_000), (3_000_000, 4_000_000)]


def node(name, kind, ts, dur, shapes=()):
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": ts,
        "dur": dur,
        "args": {"op_name": kind, "input_type_shape": shapes},
    }


def test_onnx_runtime_s_nodes_lie_in_their_inferences_and_depthwise_is_reported_by_its_weights():
    events = [
        {"cat": "Session", "name": "model_run", "ts": 10, "dur": 500},  # a run before the window
        {"cat": "Session", "name": "model_run", "ts": 50_010, "dur": 980},
        {"cat": "Session", "name": "model_run", "ts": 52_010, "dur": 980},
        node("a", "Conv", 50_100, 300, [{"float": [1, 16, 8, 8]}, {"float": [16, 1, 3, 3]}]),
        node("b", "Conv", 52_100, 400, [{"float": [1, 16, 8, 8]}, {"float": [32, 16, 1, 1]}]),
    ]
    recording = onnxrt.recording(events, WALLS, "1.31.1")
    assert [(record.name, record.detail) for record in recording.records] == [("Conv [depthwise]", "a"), ("Conv", "b")]
    assert recording.records[0].start_ns == pytest.approx(1_100_000, abs=12_000)
    assert recording.records[1].end_ns - recording.records[1].start_ns == 400_000
    assert recording.clock_error_ns is not None
    assert recording.clock_error_ns <= 12_000


def test_torch_s_calls_are_reported_for_their_own_time():
    call = torch.Call
    calls = [
        call("framewatt inference", 1, 900, 2_100, ()), call("framewatt inference", 1, 2_900, 4_100, ()),
        call("aten::conv2d", 1, 1_000, 1_900, ([1, 8, 4, 4], [8, 1, 3, 3])), call("aten::mkldnn_convolution", 1, 1_100, 1_800),
    ]  # fmt: skip
    walls = [(5_000_000_950, 5_000_002_050), (5_000_002_950, 5_000_004_050)]
    records = torch.recording(calls, walls, "2.13").records
    assert [(record.kind, record.name, record.end_ns - record.start_ns) for record in records] == [
        ("dispatch", "aten::conv2d [depthwise]", 100), ("operator", "aten::mkldnn_convolution", 700),
        ("dispatch", "aten::conv2d [depthwise]", 100),
    ]  # fmt: skip
    assert records[0].start_ns == pytest.approx(5_000_001_000, abs=60)


def test_tensorflow_s_operators_are_found_in_graphs_in_xla_s_programs_and_in_eager_calls():
    call = tensorflow.Call
    calls = [
        call("f", 0, 0, 100), call("layer/Conv2D:Conv2D", 0, 10, 20, "Conv2D"), call("fusion", 0, 20, 30, "", "add_fusion.1"),
        call("end: fusion", 0, 30, 30), call("__inference_f_1:__inference_f_1", 0, 0, 100, "__inference_f_1"),
        call("EagerLocalExecute: Relu", 0, 40, 60), call("KernelAndDeviceFunc::Run", 0, 45, 55),
        call("EagerLocalExecute: __inference_f_2", 0, 70, 90), call("KernelAndDeviceFunc::Run", 0, 75, 85),
    ]  # fmt: skip
    found = [(event.name, event.start_ns, event.end_ns) for event in tensorflow.operators(calls)]
    assert found == [("Conv2D", 10, 20), ("add_fusion.1", 20, 30), ("Relu", 45, 55)]


@pytest.mark.parametrize("recording", [onnxrt.recording, torch.recording, tensorflow.recording])
def test_a_profile_without_the_inferences_is_refused(recording):
    with pytest.raises(CannotTrace, match="0 inferences of 2"):
        recording([], WALLS, "1")


def openvino_node(duration_ns, kind="Convolution", name="c", kernel="brgconv_avx512_f32"):
    return openvino.Node(kind, name, kernel, duration_ns)


def test_openvino_s_counters_stand_in_a_row_within_their_inference():
    nodes = [
        openvino_node(300_000, "GroupConvolution", "a", "brgconv_avx512_dw_f32"),
        openvino_node(0, "Reshape", "b", "unknown_f32"),
        openvino_node(400_000),
    ]
    recording = openvino.recording(WALLS, nodes, "2026.1")
    assert [(one.name, one.detail, one.start_ns, one.end_ns) for one in recording.records] == [
        ("GroupConvolution [depthwise]", "a", 1_000_000, 1_300_000), ("Convolution", "c", 1_300_000, 1_700_000),
        ("GroupConvolution [depthwise]", "a", 3_000_000, 3_300_000), ("Convolution", "c", 3_300_000, 3_700_000),
    ]  # fmt: skip
    assert "not when" in recording.message
    assert "did not fit" not in recording.message


def test_openvino_s_mean_is_shared_out_by_what_each_inference_took():
    walls = [(0, 500_000), (1_000_000, 2_500_000)]
    records = openvino.recording(walls, [openvino_node(900_000)], "2026.1").records
    assert [one.end_ns - one.start_ns for one in records] == [450_000, 1_350_000]


def test_openvino_s_counters_that_tell_more_than_the_inference_took_are_cut_off_and_said():
    recording = openvino.recording(WALLS[:1], [openvino_node(1_250_000, "MatMul")], "2026.1")
    assert recording.records[0].end_ns == WALLS[0][1]
    assert "250 us of operators an inference did not fit" in recording.message


def test_openvino_s_means_since_the_compilation_become_those_of_the_recorded_inferences():
    before = [openvino_node(20_000_000), openvino_node(7_000_000, name="once")]
    after = [openvino_node(4_000_000), openvino_node(1_000_000, name="once"), openvino_node(40_000, name="new")]
    # 4 inferences of 20 ms in the mean, 24 of 4 ms: 20 of 0.8 ms; what rounding down makes negative is zero
    nodes = openvino.between(before, 4, after, 24)
    assert [(one.name, one.duration_ns) for one in nodes] == [("c", 800_000), ("once", 0), ("new", 48_000)]


def test_openvino_s_counters_without_an_operator_are_refused():
    with pytest.raises(CannotTrace, match="no operator"):
        openvino.recording(WALLS[:1], [], "2026.1")
