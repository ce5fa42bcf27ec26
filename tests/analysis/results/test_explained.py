"""Made-up streams of records of known content give known figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from analysis.database.connection import Database
from analysis.output.explained import lacks
from analysis.results.explained import CLASSES, load, short_name
from tests.analysis.conftest import RunBuilder
from tests.analysis.tracing import MS, kernel, write_trace

CONV, ADD = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_nhwc", "void at::native::vectorized_elementwise_kernel<4, add>"


@pytest.fixture
def explained(
    build: Callable[..., RunBuilder], opened: Callable[..., Database]
) -> Callable[..., tuple[Any, Any, Database]]:
    """(cell, its row of the view, the database) of one traced cell."""

    def make(records, variant="torch", **trace):
        run = build(device="gpu0", device_name="Test GPU", uuid="GPU-1")
        write_trace(run.cell(variant, durations_ns=[9 * MS] * 20), records, **trace)
        database = opened(run)
        (cell,) = load(database)
        return cell, cell.facts, database

    return make


def test_one_kernel_one_copy_and_the_gaps_between(explained):
    copy = {
        "kind": "memcpy",
        "name": "memcpy H2D",
        "detail": "H2D",
        "bytes": 2_000_000,
        "inference": 0,
        "start": 1,
        "end": 2,
    }
    cell, facts, _ = explained([copy, kernel(CONV, 3, 7)])
    assert cell.classes == pytest.approx({"convolution": 4 * MS, "copy H2D": 1 * MS, "gap: host at work": 5 * MS})
    assert facts["busy_share"] == pytest.approx(0.5)
    assert facts["h2d_bytes_per_s"] == pytest.approx(2e9)
    assert facts["copy_share"] == pytest.approx(0.1)
    assert facts["tensor_core_share"] == pytest.approx(1.0)
    assert facts["kernels"] == 1


def test_overlapping_streams_share_the_time_and_never_count_it_twice(explained):
    cell, facts, _ = explained([kernel(CONV, 0, 6, stream=1), kernel(ADD, 2, 8, stream=2), kernel(ADD, 4, 5, stream=3)])
    # 0-2 conv alone; 2-4 two; 4-5 three; 5-6 two; 6-8 add alone
    assert cell.classes["convolution"] == pytest.approx((2 + 1 + 1 / 3 + 0.5) * MS)
    assert cell.classes["elementwise"] == pytest.approx((1 + 2 / 3 + 0.5 + 2) * MS)
    assert facts["busy_ns"] == pytest.approx(8 * MS)
    assert sum(cell.classes.values()) == pytest.approx(10 * MS, rel=1e-9)


def test_the_sum_is_the_wall_time_whatever_the_records_are(explained):
    records = [kernel(CONV, i * 0.37 % 9, i * 0.37 % 9 + 0.2 + i % 3, inference=i % 3, stream=i % 4) for i in range(60)]
    cell, facts, _ = explained(records, walls_ms=(10.0, 12.5, 9.0))
    assert sum(cell.classes.values()) == pytest.approx(facts["wall_ns"], rel=1e-9)
    assert facts["wall_ns"] == pytest.approx(10.5 * MS)


def test_a_record_that_outlasts_its_inference_is_cut(explained):
    cell, _, _ = explained([kernel(CONV, 8, 15)])
    assert cell.classes["convolution"] == pytest.approx(2 * MS)


def test_gaps_while_the_host_works_are_told_from_those_while_it_waits(explained):
    wait = {"kind": "sync", "name": "cudaStreamSynchronize", "inference": 0, "start": 4, "end": 9.5}
    cell, facts, _ = explained([kernel(CONV, 2, 5), kernel(ADD, 6, 8), wait])
    assert cell.classes["gap: host at work"] == pytest.approx(2.5 * MS)
    assert cell.classes["gap: host waits"] == pytest.approx(2.5 * MS)
    assert facts["host_wait_ns"] == pytest.approx(5.5 * MS)


def test_kernels_of_graphs_count_each_for_itself(explained):
    nodes = [kernel(ADD, i, i + 0.5, graph=4, graph_node=i, correlation=77) for i in range(5)]
    launch = {
        "kind": "graph_launch",
        "name": "cudaGraphLaunch",
        "inference": 0,
        "start": 0,
        "end": 0.2,
        "correlation": 77,
    }
    cell, facts, _ = explained([launch, *nodes])
    assert (facts["kernels"], facts["graph_kernels"], facts["graph_launches"], facts["launches"]) == (5, 5, 1, 0)
    assert cell.kernels[0]["calls"] == 5


def test_counts_and_times_are_of_one_inference(explained):
    cell, facts, _ = explained([kernel(CONV, 0, 2, i) for i in range(4)], walls_ms=(10.0,) * 4)
    assert (facts["inferences"], facts["kernels"], cell.kernels[0]["calls"]) == (4, 1, 1)
    assert cell.kernels[0]["ns"] == pytest.approx(2 * MS)
    assert cell.kernels[0]["share_of_busy"] == pytest.approx(1)


def test_what_recording_cost_is_reported_for_each_kernel(explained):
    _, facts, _ = explained([kernel(CONV, i, i + 0.5) for i in range(10)], untraced_ms=(9.0, 9.0, 30.0))
    assert facts["median_untraced_ns"] == pytest.approx(9 * MS)
    assert facts["trace_cost_ns_per_record"] == pytest.approx(0.1 * MS)


def test_calls_times_time_per_call_is_the_time_where_operators_overlap(explained):
    parts = [
        {
            "kind": "operator",
            "name": "_MklBatchMatMulV2",
            "inference": 0,
            "start": start,
            "end": start + 2,
            "stream": stream,
        }
        for stream, start in enumerate((0, 0, 1))
    ]
    cell, _, _ = explained(parts, source="TensorFlow's profiler", dropped=None)
    (row,) = cell.kernels
    assert row["calls"] * row["ns_per_call"] == pytest.approx(row["ns"])
    assert row["ns_per_call"] == pytest.approx(MS)
    assert row["length_ns"] == pytest.approx(2 * MS)


def test_calls_of_an_operator_on_the_cpu_are_counted_once_with_their_own_time(explained):
    parts = [
        {"kind": "dispatch", "name": "aten::linear", "inference": 0, "start": 0, "end": 1, "correlation": 1},
        {"kind": "operator", "name": "aten::addmm", "inference": 0, "start": 1, "end": 4, "correlation": 2},
        {"kind": "dispatch", "name": "aten::linear", "inference": 0, "start": 4, "end": 5, "correlation": 1},
    ]
    cell, facts, _ = explained(parts, source="torch.profiler", dropped=None)
    assert {kernel["name"]: kernel["calls"] for kernel in cell.kernels} == {"aten::linear": 1, "aten::addmm": 1}
    assert facts["operators"] == 1
    assert cell.classes["matrix product"] == pytest.approx(5 * MS)


@pytest.mark.parametrize(
    ("trace", "says"),
    [
        ({"dropped": 12}, "12 records were dropped"),
        ({"dropped": None}, "does not tell whether records were dropped"),
        ({"message": "3 of 4 launches of CUDA graphs have no kernels in the records"}, "3 of 4 launches"),
    ],
)
def test_what_the_records_lack_is_said(explained, trace, says):
    cell, _, _ = explained([kernel(CONV, 0, 5)], **trace)
    assert any(says in line for line in lacks([cell]))


H2D = {
    "kind": "memcpy",
    "name": "memcpy H2D",
    "detail": "H2D",
    "bytes": 2_000_000,
    "inference": 0,
    "start": 5,
    "end": 6,
}


def test_a_whole_trace_lacks_nothing(explained):
    cell, _, _ = explained([kernel(CONV, 0, 5), H2D])
    assert lacks([cell]) == []


def test_a_missing_copy_of_the_input_is_said(explained):
    cell, _, _ = explained([kernel(CONV, 0, 5)])
    assert lacks([cell]) == [
        "PyTorch fp32, batch 8: cupti told no copy of the input to the GPU (H2D): either none took place, and the cell's time "
        "lacks it, or its time stands among the gaps"
    ]


def test_records_between_inferences_are_said(explained):
    cell, _, _ = explained([kernel(CONV, 0, 5), kernel(CONV, 10.2, 10.4, inference=None)])
    assert any("1 records on the GPU began between two inferences" in line for line in lacks([cell]))


def test_time_without_a_class_is_said_above_three_percent(explained):
    cell, facts, _ = explained([kernel(CONV, 0, 5), kernel("zzz_unheard_of", 5, 6)])
    assert facts["unclassified_share"] == pytest.approx(1 / 6)
    assert any("has no class" in line for line in lacks([cell]))


def test_what_recording_costs_is_said_above_ten_percent(explained):
    cell, _, _ = explained([kernel(CONV, 0, 5), H2D], untraced_ms=(8.0,))
    assert lacks([cell]) == [
        "PyTorch fp32, batch 8: recording costs 2 ms an inference, 25 % of the 8 ms that it takes unrecorded (medians): the tables' "
        "gaps hold most of this, the sentences take it off"
    ]


def test_what_recording_costs_is_not_said_below(explained):
    cell, _, _ = explained([kernel(CONV, 0, 5), H2D], untraced_ms=(9.5,))
    assert lacks([cell]) == []


def test_inferences_that_are_faster_while_recorded_are_said(explained):
    cell, _, _ = explained([kernel(CONV, 0, 5), H2D], untraced_ms=(20.0,))
    assert "an inference took 50 % less while recorded (10 ms instead of 20 ms" in lacks([cell])[0]


def test_records_that_end_before_they_begin_are_said(explained):
    cell, _, _ = explained([kernel(CONV, 0, 5), kernel(ADD, 7, 6), H2D])
    assert cell.classes.get("elementwise") is None
    assert any("1 records end before they begin and are left out" in line for line in lacks([cell]))


def test_inferences_that_traced_csv_lacks_are_said(build, opened):
    run = build(device="gpu0", device_name="Test GPU", uuid="GPU-1")
    folder = run.cell("torch", durations_ns=[9 * MS] * 20)
    write_trace(folder, [kernel(CONV, 0, 5, i) for i in range(3)], walls_ms=(10.0, 10.0, 10.0))
    path = folder / "traced.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("2,1,")))
    (cell,) = load(opened(run))
    assert cell.classes["convolution"] == pytest.approx(5 * MS)
    assert any("traced.csv has 2 of the 3 inferences" in line for line in lacks([cell]))


@pytest.mark.parametrize(("kept", "read"), [(None, 0), (1, 0), (4, 3)], ids=["deleted", "a header alone", "cut"])
def test_fewer_records_than_were_written_are_a_line_and_no_figures(build, opened, kept, read):
    run = build(device="gpu0", device_name="Test GPU", uuid="GPU-1")
    folder = run.cell("torch", durations_ns=[9 * MS] * 20)
    write_trace(folder, [kernel(CONV, i, i + 0.5) for i in range(6)])
    write_trace(run.cell("onnxrt", durations_ns=[9 * MS] * 20), [kernel(CONV, 0, 5), H2D])
    path = folder / "kernels.csv"
    if kept is None:
        path.unlink()
    else:
        path.write_text("".join(path.read_text().splitlines(True)[:kept]))
    cells = load(opened(run))
    assert [cell.facts["variant"] for cell in cells if cell.recorded] == ["onnxrt"]
    assert lacks(cells) == [
        f"PyTorch fp32, batch 8: not recorded: kernels.csv has {read} of the 6 records that trace.csv counts; the cell is left out, "
        "since its times would be too small"
    ]


@pytest.mark.parametrize(
    ("lost", "says"),
    [("traced.csv", "traced.csv is missing, or has no recorded inference"), ("trace.csv", "trace.csv is missing")],
)
def test_a_missing_file_is_named(build, opened, lost, says):
    run = build(device="gpu0", device_name="Test GPU", uuid="GPU-1")
    for variant in ("torch", "onnxrt"):
        folder = run.cell(variant, durations_ns=[9 * MS] * 20)
        write_trace(folder, [kernel(CONV, 0, 5), H2D])
    (folder / lost).unlink()
    assert lacks(load(opened(run))) == [f"ONNX Runtime fp32, batch 8: not recorded: {says}"]


def test_a_cell_that_failed_before_it_could_be_recorded_says_why(build, opened):
    run = build(device="gpu0", device_name="Test GPU", uuid="GPU-1")
    write_trace(run.cell("torch", durations_ns=[9 * MS] * 20), [kernel(CONV, 0, 5), H2D])
    run.cell("torchcompile", status="timeout", message="compiling took more than 150 s")
    assert lacks(load(opened(run))) == [
        "torch.compile fp32, batch 8: not recorded: timeout: compiling took more than 150 s"
    ]


def test_a_cell_that_could_not_be_recorded_says_why(build, opened):
    run = build()
    write_trace(run.cell("torch", durations_ns=[MS] * 20), [], walls_ms=(), message="no CUPTI: install it")
    (cell,) = load(opened(run))
    assert not cell.recorded
    assert lacks([cell]) == ["PyTorch fp32, batch 8: not recorded: no CUPTI: install it"]


def test_a_torn_file_of_records_costs_its_line_alone(build, opened):
    run = build()
    folder = run.cell("torch", durations_ns=[MS] * 20)
    write_trace(folder, [kernel(CONV, 0, 2), kernel('a "quoted", name', 3, 5)])
    path = folder / "kernels.csv"
    path.write_text(path.read_text() + "2,0,kernel,torn")
    database = opened(run)
    (cell,) = load(database)
    assert cell.classes["convolution"] == pytest.approx(2 * MS)
    assert {kernel["name"] for kernel in cell.kernels} == {CONV, 'a "quoted", name'}
    assert any("kernels.csv" in str(problem) for problem in database.problems)


def test_a_run_without_traces_has_none(build, opened):
    run = build()
    run.cell("torch", durations_ns=[MS] * 20)
    assert load(opened(run)) == []


DEPTHWISE = "void at::native::(anonymous namespace)::conv_depthwise2d_forward_kernel<{}, float, int>(torch::Accessor<float, 3ul>)"
CLAMP = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::launch_clamp_scalar(at::TensorBase&, "
    "c10::Scalar)::{lambda()#1}, std::array<char*, 2ul> >(int, at::native::x)"
)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (DEPTHWISE.format(3), "conv_depthwise2d_forward_kernel<3, float, int>"),
        (DEPTHWISE.format(5), "conv_depthwise2d_forward_kernel<5, float, int>"),
        (CLAMP, "vectorized_elementwise_kernel launch_clamp_scalar"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3>>(int)",
            "vectorized_elementwise_kernel CUDAFunctor_add",
        ),
        (
            "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::BinaryFunctor<float, float, "
            "float, at::native::binary_internal::MulFunctor<float> > >(at::TensorIteratorBase&)::{lambda(int)#1}>(int)",
            "elementwise_kernel MulFunctor",
        ),
        (
            "void Eigen::internal::EigenMetaKernel<Eigen::TensorEvaluator<Eigen::TensorAssignOp<Eigen::TensorMap<Eigen::Tensor<"
            "float>>, Eigen::TensorCwiseBinaryOp<Eigen::internal::scalar_sum_op<float const, float const>>>>, long>(long)",
            "EigenMetaKernel scalar_sum_op",
        ),
        (
            "void onnxruntime::cuda::_BinaryElementWiseSimple<true, false, __half, onnxruntime::cuda::OP_Mul<__half>, 256, 4>(__half)",
            "_BinaryElementWiseSimple OP_Mul",
        ),
        (
            "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x128>(cutlass_80_tensorop_s1688gemm_128x128::Params)",
            "cutlass_80_tensorop_s1688gemm_128x128",
        ),
        (
            "void conv2d_c1_k1_nhwc_kernel<__half, __half, __half, float, float, 5, 2, true, false>(float, cudnnTensorStruct)",
            "conv2d_c1_k1_nhwc_kernel<__half, float, 5, 2>",
        ),
        (
            "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, __half, float, false, true, 7>(int)",
            "internal::gemvx::kernel<int, __half, float, 7>",
        ),
        (
            "triton_poi_fused_add_constant_pad_nd_convolution_hardsigmoid_hardswish_mul_41",
            "triton_poi_fused_add_constant_pad_nd_convo...ardswish_mul_41",
        ),
        ("nvjet_sm90_hsh_8x64_64x16_4x1_v_bz_TNN", "nvjet_sm90_hsh_8x64_64x16_4x1_v_bz_TNN"),
        ("aten::mkldnn_convolution [depthwise]", "aten::mkldnn_convolution [depthwise]"),
        ("Conv", "Conv"),
        ("void f<", "f"),
    ],
)
def test_short_names_keep_what_tells_a_kernel(name, short):
    assert short_name(name) == short


@pytest.mark.parametrize(
    "name",
    [
        "x" * 100,
        "sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize64x128x32_stage5_warpsize2x2x1_tensor16x8x16",
        CLAMP * 2,
    ],
)
def test_short_names_are_short(name):
    assert len(short_name(name)) <= 60


def test_classes_are_listed_once():
    assert len(set(CLASSES)) == len(CLASSES)
