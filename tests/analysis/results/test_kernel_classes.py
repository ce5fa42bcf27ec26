"""The rules of analysis/kernel_classes.csv, on names of kernels and operators of all systems."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pytest

from analysis.database.lazy_views import KERNEL_CLASSES
from analysis.results.explained import CLASSES

NAMES = {
    "convolution": [
        "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x32_stage4_warpsize2x2x1_g1_tensor16x8x16",
        "sm90_xmma_fprop_implicit_gemm_indexed_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize64x64x64_cgasize1x1x1",
        "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_128x128_32x3_nhwc_align8>(Params)",
        "void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, false, false, true>(int, int)",
        "ampere_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1",
        "ampere_fp16_s16816cudnn_fp16_128x128_ldg8_relu_f2f",
        "void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>", "Conv", "FusedConv",
        "aten::mkldnn_convolution", "aten::cudnn_convolution", "_MklNativeFusedConv2D", "Conv2D", "_FusedConv2D",
        "convolution.1", "cudnn_generated_fort_native_conv_fprop_sm90", "NhwcConv",
        "void fft1d_r2c_32<float, float, float2, true, false>(float2*, float const*, int, int3, int3, int2, int2)",
        "void cudnn::cnn::kern_precompute_indices<false>(int*, int, int, int, int, int)",
    ],
    "depthwise": [
        "void at::native::(anonymous namespace)::conv_depthwise2d_forward_kernel<3, float, int>(...)",
        "void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, false, 0, 0, int, __half>(...)",
        "void tensorflow::DepthwiseConv2dGPUKernelNHWCSmall<float, 3, 3, 4>", "DepthwiseConv2dNative",
        "Conv [depthwise]", "_MklNativeFusedDepthwiseConv2dNative", "depthwise.50",
        "aten::mkldnn_convolution [depthwise]",
    ],
    "matrix product": [
        "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT", "ampere_sgemm_128x64_tn",
        "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize96x64x32",
        "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x128_16x5_tn_align4>(T1::Params)",
        "void gemv2T_kernel_val<int, float>", "void cublasLt::splitKreduce_kernel<32, 16, int, float>",
        "void dot_kernel<float, 128, 0>", "gemm_fusion_dot_12", "aten::addmm", "aten::mm", "aten::bmm", "MatMul",
        "_FusedMatMul", "_MklNativeFusedMatMul", "Gemm", "FusedMatMul", "dot.40", "dot_add_fusion",
        "triton_tem_fused_mm_3",
    ],
    "attention": [
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>>",
        "fmha_cutlassF_f16_aligned_64x64_rf_sm80", "fmha_v2_flash_attention_fp16_64_128_S_64_sm90_kernel",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob",
        "aten::_scaled_dot_product_flash_attention_for_cpu", "MultiHeadAttention", "Attention", "_gemm_mha_v2_0x1",
    ],
    "elementwise": [
        "main_kernel", "void cuScale::scale<float, float, false, (cuScale::Mode)0, false, false, false, 4>",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::Half>, std::array<char*, 3ul>>(...)",
        "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<hardswish_kernel>>",
        "triton_poi_fused_add_hardtanh_mul_3", "triton_poi_fused__to_copy_add_clamp_div_mul_0",
        "loop_multiply_fusion_3", "loop_add_fusion", "fusion_12", "clamp_multiply_fusion.9",
        "Mul_GPU_DT_FLOAT_DT_FLOAT_kernel", "AddV2_GPU_DT_HALF_DT_HALF_kernel",
        "void Eigen::internal::EigenMetaKernel<Eigen::TensorEvaluator<scalar_product_op>>", "__myl_AddMulMin_myl0_1",
        "generatedNativePointwise", "void onnxruntime::cuda::_BinaryElementWiseSimple<true, true, float>",
        "HardSigmoid", "Clip", "void onnxruntime::cuda::_UnaryElementWise<float, float, OP_HardSwish>",
        "aten::hardswish_", "Relu6", "BiasAdd", "mul_1.108",
        "void op_generic_tensor_kernel<2, float, float, float, 256>", "void tensorflow::BiasNHWCKernel<float>",
        "QuickGelu", "void onnxruntime::cuda::_Clip<float>(float const*, float*, float const*, float const*, float, float)",
    ],
    "normalization": [
        "void cudnn::bn_fw_inf_1C11_kernel_NCHW<float, float, true, 1>",
        "void at::native::batch_norm_transform_input_kernel<float>",
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float>", "LayerNormalization",
        "BatchNormalization", "void onnxruntime::contrib::cuda::SkipLayerNormKernelSmall<float, 32u, 4>",
        "aten::native_layer_norm", "FusedBatchNormV3", "triton_per_fused_native_layer_norm_2",
    ],
    "reduction and pooling": [
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float>>>",
        "triton_per_fused_mean_4", "triton_red_fused_sum_7", "input_reduce_fusion",
        "wrapped_reduce-window.1", "input_add_reduce_fusion",
        "void cudnn::pooling_fw_4d_kernel<float>", "void tensorflow::functor::RowReduceKernel<float*>",
        "void (anonymous namespace)::softmax_warp_forward<float, float, 10>", "GlobalAveragePool", "ReduceMean",
        "Softmax", "_MklSoftmax", "Mean", "aten::mean", "aten::sum", "aten::_softmax",
        "void onnxruntime::cuda::detail::reduce_matrix_columns_kernel<float>", "__myl_MeaCas_myl0_4",
    ],
    "layout change": [
        "void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>",
        "void genericReformat::copyPackedKernel<float, float>", "void genericReformat::copyVectorizedKernel<double>",
        "void at::native::unrolled_elementwise_kernel<direct_copy_kernel_cuda>",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 4, 64, 64>",
        "void tensorflow::functor::SwapDimension1And2InTensor3UsingTiles<unsigned int, 256>",
        "input_transpose_fusion", "loop_convert_fusion", "void onnxruntime::cuda::Transpose3DKernel<float>",
        "__myl_MovCas_myl0_0", "triton_poi_fused__to_copy_0", "Transpose", "Reshape", "ReorderInput", "ReorderOutput",
        "Concat", "Cast", "Pad", "aten::copy_", "aten::permute", "StridedSlice", "wrapped_transpose",
        "permutationKernelPLC3",
    ],
    "other": [
        "ReadVariableOp", "_EagerConst", "aten::empty", "redzone_checker", "call.3",
    ],
}  # fmt: skip
#: what transformers are made of, and OpenVINO's types of operators
NAMES_OF_TRANSFORMERS = {
    "attention": [
        "void pytorch_flash::flash_fwd_splitkv_combine_kernel", "ScaledDotProductAttentionWithKVCache", "MHA",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64_4x1x1_kernel0_0",
        "aten::_native_multi_head_attention", "triton_flex_attention", "void at::native::mha_varlen_fwd",
    ],
    "matrix product": [
        "nvjet_hsh_128x64_64x8_1x2_h_bz_bias_TNT", "__myl_FcMul_myl0_3", "triton_mm", "gemm_fusion_dot_12", "FullyConnected",
        "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64", "void cublasLt::epilogue::impl::globalKernel<8, 32>",
    ],
    "convolution": ["GroupConvolution", "void cask__5x_cudnn::computeOffsetsKernel"],
    "depthwise": ["GroupConvolution [depthwise]"],
    "normalization": [
        "__myl_AddResMeaSubPowMeaAddSqrDivMulAdd_myl0_17", "triton_per_fused_add_native_layer_norm_7", "MVN", "RMS",
        "void onnxruntime::contrib::cuda::SkipLayerNormKernelSmall<__half, 192, 4>",
    ],
    "reduction and pooling": [
        "__myl_MaxrSubExpSumDivMul_myl0_3", "triton_softmax_4",
        "void tensorflow::(anonymous namespace)::GenerateNormalizedProb<float, float, 4>",
    ],
    "layout change": ["Reorder", "VariadicSplit", "void onnxruntime::contrib::cuda::AddBiasTransposeQKV<float>"],
    "elementwise": ["PowerStatic", "HSwish", "Subgraph", "void onnxruntime::contrib::cuda::FastGeluKernel"],
    "other": ["ShapeOf", "void onnxruntime::contrib::cuda::MaskIndexKernelSmall<32>"],
}  # fmt: skip
#: what BERT-Tiny and ViT-Ti16 ran on an H200 (ViT-Ti16: fp16, batch 32, all but torch.compile, TensorRT and Keras + XLA) and on a CPU
COLLECTED_FROM_TRANSFORMERS = {
    "layout change": [
        "aten::index", "aten::_reshape_alias", "aten::_unsafe_view", "aten::expand", "aten::unsqueeze", "GatherV2", "ConcatV2",
        "Pack", "_MklTranspose", "BroadcastTo", "Squeeze", "Cast",
        "void onnxruntime::cuda::Transpose4DKernelParallelizeMultipleElementsPerThreadInInnermostDim<2>(onnxruntime::cuda::TArray)",
        "void onnxruntime::cuda::_ConcatKernelInputMajor<short>(onnxruntime::cuda::TArray<void const*, 32>)",
        "void at::native::vectorized_elementwise_kernel<8, at::native::float16_copy_kernel_cuda(at::TensorIteratorBase&)>",
        "void tensorflow::GatherOpKernel<tensorflow::AlignedVector<int, 1>, int, true>(tensorflow::AlignedVector<int, 1> const*)",
    ],
    "elementwise": [
        "aten::less", "aten::logical_not", "aten::lt", "aten::pow", "aten::reciprocal", "aten::fill_", "Less", "Not", "FastGelu",
        "SelectV2", "SquaredDifference", "AddN", "Erfc", "Rsqrt", "loop_rsqrt_fusion_23", "fusion_720",
        "void at::native::vectorized_elementwise_kernel<8, at::native::erf_kernel_cuda(at::TensorIteratorBase&)>",
        "void (anonymous namespace)::elementwise_kernel_with_index<int, at::native::arange_cuda_out(c10::Scalar const&)>",
        "void onnxruntime::cuda::_BinaryElementWiseRhsPerChannelBatchN<__half, __half, __half, onnxruntime::cuda::OP_Add<__half>>",
    ],
    "matrix product": [
        "nvjet_sm90_hsh_64x8_64x16_2x4_h_bz_NNT", "gemm_fusion_dot_96", "_MklBatchMatMulV2", "_MklNativeFusedMatMul", "_MklEinsum",
        "FusedGemm",
        "void cutlass::Kernel2<cutlass_75_tensorop_f16_s1688gemm_f16_64x64_tn_align1>(Params)",
    ],
    "reduction and pooling": [
        "void tensorflow::functor::BlockReduceKernel<int*, int*, 256, tensorflow::functor::Prod<int> >(int*, int*, int)",
        "void tensorflow::functor::CleanupSegments<float*, tensorflow::TransformOutputIterator<float, float> >(float*)",
        "void tensorflow::(anonymous namespace)::GenerateNormalizedProb<Eigen::half, float, 8>(Eigen::half const*)",
        "void (anonymous namespace)::softmax_warp_forward<c10::Half, c10::Half, float, 8, false, false>(c10::Half*)",
        "void cudnn::pooling_fw_4d_kernel<__half, float>", "input_add_reduce_fusion_10", "_MklSoftmax", "Prod", "aten::_softmax",
    ],
    "convolution": ["void convolve_common_engine_float_NHWC<__half, __half, 128, 5, 5, 3, 3, 3, true, false, false, false, false>"],
    "other": ["ReadVariableOp", "_EagerConst", "aten::resolve_conj", "aten::empty_strided"],
}  # fmt: skip
#: What TensorRT ran of ViT-Ti16 (fp16, batch 32, NVIDIA H200): attention, and its Myelin kernels by what they fuse.
TENSORRT_ON_VIT = {
    "attention": ["mha0", "mha11"],
    "normalization": [
        "__myl_bb0_58_NegAddSqrResTraResDivMulResResTraResMulMulAddAddResTra",
        "__myl_bb0_5_AddSqrResTraResDivNegMulResResTraResMulMulAddAdd",
        "__myl_bb0_22_AddMeaSubMulMea", "__myl_bb0_94_ResResTraResAddMeaSubMulMea",
        "__myl_bb0_98_AddMeaSubMulMeaAddSqrDivMulMulNegMulAddAdd",
    ],
    "elementwise": ["__myl_bb0_97_MovResAddResTraResMov", "__myl_bb0_99_RepAddMov", "__myl_bb0_7_MulErfAddMul"],
    "layout change": ["__myl_bb0_100_TraResMov", "__myl_bb0_4_CasMov"],
    "reduction and pooling": ["__myl_bb0_3_MaxrSubExpSumDivMul", "__myl_bb0_3_Mea"],
}  # fmt: skip
_TILING = "sm90_xmma_depthwise_convolution_fprop_tiling_f16f16_f32f32_f32_nhwckrsc_nhwc_tilesize"
#: Depthwise kernels of an inference of MobileNetV3-Large on an NVIDIA H200, with their calls: the model has 15 depthwise layers.
#: cuDNN's helpers of its tiling kernels are left out: they belong to a layer that is counted.
DEPTHWISE_OF_MOBILENET = {
    "torchcompile fp32, batch 32": {"conv2d_c1_k1_nhwc": 15},
    "torch fp16, batch 1": {
        "conv2d_c1_k1_nhwc": 5,
        "void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, true, false, false, 0, 0, int, float, __half>(int)": 10,
    },
    "torchcompile fp16, batch 32": {
        "conv2d_c1_k1_nhwc_specialized": 10, f"{_TILING}1x8x8_1x3x3": 4, f"{_TILING}1x4x8_1x3x3": 1,
    },
    "onnxrt fp32, batch 1": {
        "conv2d_c1_k1_nchw_hw_packed": 3,
        "void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, false, false, false, 1, 0, int, float>(int)": 6,
        "void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, false, false, false, 1, 3, int, float>(int)": 6,
    },
    "kerasxla fp16, batch 32": {
        "void conv2d_c1_k1_nhwc_kernel_specialized<__half, __half, __half, float, float, 3, 1, 8, 3, true>(float)": 7,
        "void conv2d_c1_k1_nhwc_kernel_specialized<__half, __half, __half, float, float, 5, 1, 8, 3, true>(float)": 4,
        "void conv2d_c1_k1_nhwc_kernel_specialized<__half, __half, __half, float, float, 3, 2, 8, 2, true>(float)": 2,
        "void conv2d_c1_k1_nhwc_kernel_specialized<__half, __half, __half, float, float, 5, 2, 8, 2, true>(float)": 2,
    },
    "tensorrt fp16, batch 32": {
        "sm50_xmma_fprop_conv3d_c1_k1_f16f16_f16_f16_ndhwcktrsc_ndhwc_tilesize64x16_threadsize64x2_general_alignC8_trt": 4,
        "sm50_xmma_convolution_depthwiseHMMA_FP16NHWCx8_TR3_TS3_STRIDEH1_STRIDEW1_execute_kernel_trt": 7,
        "sm50_xmma_convolution_depthwiseHMMA_FP16NHWCx8_TR5_TS5_STRIDEH1_STRIDEW1_execute_kernel_trt": 2,
        "sm50_xmma_convolution_depthwiseHMMA_FP16NHWCx8_TR3_TS3_STRIDEH2_STRIDEW2_execute_kernel_trt": 2,
    },
    "tensorrt fp32, batch 32": {
        "sm50_xmma_convolution_trt_depthwiseFP32NHWC4_fp32nhwcx4_fp32nhwcx4_fp32kcrs_execute_kernel_trt": 11,
        "sm50_xmma_fprop_conv3d_c1_k1_f32f32_f32_f32_ndhwcktrsc_ndhwc_tilesize64x8_threadsize64x2_general_alignC4_trt": 2,
        "sm50_xmma_fprop_conv2d_c1_k1_f32f32_f32_f32_nchwkcrs_nchw_tilesize10x40x8_threadsize4x4_r5s5_u1v1_execute_kernel_trt": 2,
    },
    # of its 16 calls one is the model's first layer, which is not depthwise: the name is the same
    "onnxrt fp16, batch 32": {"cudnn_generated_convFwd_pointwise_fort_ffma_grouped_sm50_kernel0_0": 16},
}  # fmt: skip
#: what the same inferences ran beside them
NOT_DEPTHWISE = [
    "sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nchwkcrs_nchw_tilesize32x32x8_stage3_warpsize1x2x1_g1_ffma_aligna4_alignc4",
    "void implicit_convolve_sgemm<__half, __half, 1024, 5, 5, 3, 3, 3, 1, false, true, true>(int)",
    "cudnn_generated_fort_native_sm80_convFwd_pointwise_knob_28_128x32x64_1_0",
    "void convolve_common_engine_float_NHWC<float, float, 1024, 5, 5, 3, 3, 3, true, false, false, false, false>(int)",
]
#: names that another rule's words are part of
NEIGHBOURS = {
    "aten::index_select": "layout change", "aten::gather": "layout change", "aten::index_put_": "layout change",
    "aten::less_equal": "elementwise", "aten::tril": "elementwise", "aten::log1p": "elementwise", "aten::erf": "elementwise",
    "LogicalOr": "elementwise", "ReverseV2": "layout change", "FloorMod": "elementwise", "_MklGelu": "elementwise",
    "Modest": None, "aten::indexed_loss": None, "aten::lesson": None,
}  # fmt: skip
ON_TENSOR_CORES = [
    "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc", "sm80_xmma_gemm_tf32f32_tf32f32_f32_tn_n",
    "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x128>", "nvjet_hsh_128x256_64x4", "turing_h1688cudnn_256x128_ldg8_relu",
    "void pytorch_flash::flash_fwd_kernel<64>",
    "sm50_xmma_convolution_depthwiseHMMA_FP16NHWCx8_TR3_TS3_STRIDEH1_STRIDEW1_execute_kernel_trt",
    "sm90_xmma_fprop_image_first_layer_f16f16_f32_f16_nhwckrsc_nhwc_hmma_k16c4r3s3_stride2x2_tile16x64x16_tensor1688_execute",
]  # fmt: skip
NOT_ON_THEM = [
    "sm50_xmma_fprop_conv3d_c1_k1_f16f16_f16_f16_ndhwcktrsc_ndhwc_tilesize64x16_threadsize64x2_general_alignC8_trt",
    "sm60_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize64x32x64", "cudnn_generated_convFwd_pointwise_fort_ffma_grouped_sm50_kernel0_0",
    "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize32x32x8_stage3_warpsize1x2x1_ffma_aligna4", "maxwell_hfma_f16f16_xmma_1x1",
    "sm90_xmma_depthwise_convolution_fprop_tiling_f16f16_f32f32_f32_nhwckrsc_nhwc_tilesize1x8x8_1x3x3_stage4_warpsize4x1x1_g32",
    "mha0",
    "ampere_sgemm_128x64_tn", "sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwckrsc_nhwc", "ampere_scudnn_128x64_relu",
    "void at::native::vectorized_elementwise_kernel<4, add>", "void implicit_convolve_sgemm<float>",
]  # fmt: skip


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Any]]:
    from analysis.database.open_runs import open_runs

    with open_runs([tmp_path_factory.mktemp("empty")]) as database:
        yield lambda function, name: database.query(f"SELECT {function}($1) AS answer", [name])[0]["answer"]


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        (key, name)
        for one in (NAMES, NAMES_OF_TRANSFORMERS, COLLECTED_FROM_TRANSFORMERS, TENSORRT_ON_VIT)
        for key, names in one.items()
        for name in names
    ],
)
def test_a_name_has_its_class(classify, class_name, name):
    assert classify("class_of", name) == class_name


@pytest.mark.parametrize(("cell", "calls"), DEPTHWISE_OF_MOBILENET.items(), ids=list(DEPTHWISE_OF_MOBILENET))
def test_the_depthwise_layers_of_mobilenet_are_counted(classify, cell, calls):
    counted = sum(count for name, count in calls.items() if classify("class_of", name) == "depthwise")
    assert counted == (16 if cell.startswith("onnxrt fp16") else 15)


@pytest.mark.parametrize("name", NOT_DEPTHWISE)
def test_other_convolutions_are_not_depthwise(classify, name):
    assert classify("class_of", name) == "convolution"


@pytest.mark.parametrize(("name", "class_name"), NEIGHBOURS.items())
def test_a_name_is_taken_whole(classify, name, class_name):
    assert classify("class_of", name) == class_name


@pytest.mark.parametrize("name", ON_TENSOR_CORES)
def test_names_that_tell_tensor_cores(classify, name):
    assert classify("on_tensor_cores", name)


@pytest.mark.parametrize("name", NOT_ON_THEM)
def test_names_that_do_not(classify, name):
    assert not classify("on_tensor_cores", name)


def test_a_name_that_no_rule_knows_has_none(classify):
    assert classify("class_of", "zzz_unheard_of") is None


def test_every_rule_is_a_pattern_and_names_a_class():
    with KERNEL_CLASSES.open(newline="") as file:
        rules = list(csv.DictReader(file))
    assert [int(rule["place"]) for rule in rules] == list(range(len(rules)))
    for rule in rules:
        duckdb.execute("SELECT regexp_matches('x', $1)", [rule["pattern"]]).fetchall()
        plain = rule["pattern"].replace("\\W", "")
        assert plain == plain.lower(), "names are compared in lower case"
        assert rule["class"] in (("yes", "no") if rule["what"] == "tensor cores" else CLASSES)
