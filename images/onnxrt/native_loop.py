"""ONNX Runtime without framewatt, for `invoke verify`: `native_loop.py REQUEST.json`, see common/alternation.py.

The very model file and the very provider options that the adapter chose, but ONNX Runtime's own Python objects around them:
OrtValues for memory, its own stream, its own waiting. Those have no pinned host memory, so on a GPU the input and
the output stay on the device. Finding CUDA's libraries on the disk is the one step shared with the adapter.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402

from common.interleaving import Refusal, plain_loop, serve  # noqa: E402

#: those of the adapter's settings that are options of the CUDA provider
_CUDA_OPTIONS = (
    "cudnn_conv_algo_search", "cudnn_conv_use_max_workspace", "prefer_nhwc", "use_tf32", "enable_cuda_graph", "fuse_conv_bias",
    "arena_extend_strategy",
)  # fmt: skip


class Session:
    """One shape with its memory bound once."""

    def __init__(self, request: Dict[str, Any]) -> None:
        on_gpu = request["device"] != "cpu"
        if request["variant"] != "onnxrt":
            raise Refusal(f"no independent loop for {request['variant']}")
        if on_gpu and request["io"] == "host":
            raise Refusal("ONNX Runtime's Python objects have no pinned host memory to compare with: --io device")
        path = request["model_file"]
        batch = np.load(request["input"])
        options = ort.SessionOptions()
        options.log_severity_level = 4
        axis = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).get_inputs()[0].shape[0]
        if isinstance(axis, str):
            options.add_free_dimension_override_by_name(axis, len(batch))
        if request["threads"]:
            options.intra_op_num_threads = request["threads"]
        self._session = ort.InferenceSession(path, options, providers=self._providers(request))
        self._binding = self._session.io_binding()
        place = ("cuda", int(request["device"].partition(":")[2] or 0)) if on_gpu else ("cpu", 0)
        self._given = ort.OrtValue.ortvalue_from_numpy(batch, *place)
        self._binding.bind_ortvalue_input(self._session.get_inputs()[0].name, self._given)
        # The first run captures the CUDA graph, if there is one, with the addresses that it is given.
        sizes = self._session.get_outputs()[0].shape[1:]
        known = all(isinstance(size, int) for size in sizes)
        shape = (len(batch), *sizes) if known else (len(batch), request["classes"])
        self._taken = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, *place)
        self._binding.bind_ortvalue_output(self._session.get_outputs()[0].name, self._taken)
        for _ in range(3):
            self._infer()
        np.save(request["output"], self._taken.numpy().reshape(len(batch), -1))
        self.facts: Dict[str, Any] = {"loop": "run_with_iobinding", "clock": "perf_counter"}

    @staticmethod
    def _providers(request: Dict[str, Any]) -> List[Any]:
        if request["device"] == "cpu":
            return ["CPUExecutionProvider"]
        from images.onnxrt import sessions

        sessions.preload(ort)
        settings = request["settings"]
        chosen = {name: settings[name] for name in _CUDA_OPTIONS if name in settings}
        chosen["device_id"] = request["device"].partition(":")[2] or "0"
        return [("CUDAExecutionProvider", chosen)]

    def _infer(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def block(self, seconds: float) -> List[int]:
        return plain_loop(self._infer, seconds)


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: Session(asked))
