"""PyTorch without framewatt, for `invoke verify`: `native_loop.py REQUEST.json`, see common/alternation.py.

The module comes from the model's ONNX file by the same converter that the adapter uses, and computes its convolutions in
the ways that the adapter chose: anything else would be another model. What runs it is written here once more, as PyTorch's
own documentation does it, and shares nothing with the adapter.

On a GPU the clock is another one too. An event is recorded on the stream after each inference, before it is waited for;
the time between two neighbours, by the GPU's own clock, is one whole turn of the loop: the host's launch and wait included.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np  # noqa: E402
import torch  # noqa: E402

from common.interleaving import Refusal, plain_loop, serve  # noqa: E402
from images.torch import convolution_wrapping, convolutions, onnx_import  # noqa: E402

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def network(request: Dict[str, Any]) -> Any:
    """The module in the layout, with the convolutions, that the adapter found fastest; compiled for `torchcompile`."""
    if request["variant"] == "keras-torch":
        os.environ["KERAS_BACKEND"] = "torch"
        import keras

        return keras.saving.load_model(request["keras"], compile=False)
    if len(request["inputs"]) > 1 or len(request["outputs"]) > 1:
        raise Refusal("this loop feeds one tensor and reads one")
    module = onnx_import.load(Path(request["onnx"])).module
    module = module.to(request["device"], _DTYPES.get(request["precision"], torch.float32))
    if request["settings"]["layout"] == "channels-last":
        module = module.to(memory_format=torch.channels_last)
    elif request["settings"]["layout"] == "channels-first":
        onnx_import.make_first_transpose_contiguous(module)
    if request["variant"] == "torchcompile":
        module = torch.compile(module, dynamic=False, options={"freezing": True})
    elif "convolutions_in_order" in request["settings"]:
        convolution_wrapping.wrap(module)
        convolutions.set_algorithms(module, request["settings"]["convolutions_in_order"])
    return module


class OnCpu:
    """Called with the numpy batch's own memory."""

    def __init__(self, request: Dict[str, Any]) -> None:
        if request["threads"]:
            torch.set_num_threads(request["threads"])
        self._network = network(request)
        self._images = torch.from_numpy(np.load(request["input"]))
        for _ in range(3):
            self._infer()
        np.save(request["output"], self._result.numpy())
        self.facts: Dict[str, Any] = {"loop": "module(images) in inference mode", "clock": "perf_counter"}

    def _infer(self) -> None:
        with torch.inference_mode():
            self._result = self._network(self._images)

    def block(self, seconds: float) -> List[int]:
        return plain_loop(self._infer, seconds)


class OnGpu:
    """A CUDA graph, captured as in PyTorch's notes on CUDA semantics; copies from and to pinned memory where io is host."""

    def __init__(self, request: Dict[str, Any]) -> None:
        torch.cuda.set_device(request["device"])
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = request["precision"] == "tf32"
        module = network(request)
        dtype = _DTYPES.get(request["precision"], torch.float32)
        self._copies = request["io"] == "host"
        self._given = torch.from_numpy(np.load(request["input"])).pin_memory()
        self._images = self._given.cuda()
        self._stream = torch.cuda.Stream()
        with torch.cuda.stream(self._stream), torch.inference_mode():
            for _ in range(3):
                module(self._images.to(dtype)).float()
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self._graph, stream=self._stream):
            self._result = module(self._images.to(dtype)).float()
        self._taken = torch.empty(self._result.shape).pin_memory()
        with torch.cuda.stream(self._stream):
            self._infer()
        np.save(request["output"], self._result.cpu().numpy())
        self.facts: Dict[str, Any] = {"loop": "CUDA graph replay, stream synchronized", "clock": "CUDA events"}

    def _infer(self) -> Any:
        if self._copies:
            self._images.copy_(self._given, non_blocking=True)
        self._graph.replay()
        if self._copies:
            self._taken.copy_(self._result, non_blocking=True)
        done = torch.cuda.Event(enable_timing=True)
        done.record()
        self._stream.synchronize()
        return done

    def block(self, seconds: float) -> List[int]:
        marks: List[Any] = []
        with torch.cuda.stream(self._stream):
            marks.append(self._infer())
            plain_loop(lambda: marks.append(self._infer()), seconds)
        return [round(before.elapsed_time(after) * 1e6) for before, after in zip(marks, marks[1:])]


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: OnCpu(asked) if asked["device"] == "cpu" else OnGpu(asked))
