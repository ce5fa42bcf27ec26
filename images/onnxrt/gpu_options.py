"""Options of ONNX Runtime's GPU providers."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from images.onnxrt import sessions
from images.onnxrt.trial import Choice


def cuda_options(device: int, stream: int, precision: str, choice: Choice) -> Dict[str, str]:
    return {
        "device_id": str(device),
        "user_compute_stream": str(stream),
        "cudnn_conv_algo_search": "EXHAUSTIVE" if choice.exhaustive else "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "prefer_nhwc": "1" if choice.nhwc else "0",
        "use_tf32": "1" if precision == "tf32" else "0",
        "enable_cuda_graph": "1" if choice.graph else "0",
        "fuse_conv_bias": "1" if choice.fused_bias else "0",
        "arena_extend_strategy": "kSameAsRequested",
    }


def tensorrt_options(device: int, stream: int, precision: str, cache: Path, prefix: str) -> Dict[str, str]:
    return {
        "device_id": str(device),
        "user_compute_stream": str(stream),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_cuda_graph_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_engine_cache_prefix": prefix,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
    }


def stock_providers(variant: str, on_gpu: bool, device: int, precision: str) -> List[Tuple[str, Dict[str, str]]]:
    """What a tutorial names: the providers, the device and the precision."""
    if not on_gpu:
        return [(sessions.CPU, {})]
    cuda = (sessions.CUDA, {"device_id": str(device), "use_tf32": "1" if precision == "tf32" else "0"})
    if variant == "onnxrt":
        return [cuda]
    return [
        (sessions.TENSORRT, {"device_id": str(device), "trt_fp16_enable": "1" if precision == "fp16" else "0"}),
        cuda,
    ]


def providers(
    variant: str, device: int, stream: int, precision: str, choice: Choice, cache: Path, prefix: str
) -> List[Tuple[str, Dict[str, str]]]:
    cuda = (sessions.CUDA, cuda_options(device, stream, precision, choice))
    if variant == "onnxrt":
        return [cuda]
    # a graph is captured around the whole model: by TensorRT, not by the CUDA provider that takes what it leaves
    cuda[1]["enable_cuda_graph"] = "0"
    return [(sessions.TENSORRT, tensorrt_options(device, stream, precision, cache, prefix)), cuda]
