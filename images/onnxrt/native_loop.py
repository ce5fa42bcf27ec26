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
        fed = _arrays(request["input"], request["inputs"])
        options = ort.SessionOptions()
        options.log_severity_level = 4
        for value in ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).get_inputs():
            for axis, size in zip(value.shape, fed[value.name].shape):
                if isinstance(axis, str):
                    options.add_free_dimension_override_by_name(axis, size)
        if request["threads"]:
            options.intra_op_num_threads = request["threads"]
        self._session = ort.InferenceSession(path, options, providers=self._providers(request))
        self._binding = self._session.io_binding()
        place = ("cuda", int(request["device"].partition(":")[2] or 0)) if on_gpu else ("cpu", 0)
        self._given = {name: ort.OrtValue.ortvalue_from_numpy(values, *place) for name, values in fed.items()}
        for name, value in self._given.items():
            self._binding.bind_ortvalue_input(name, value)
        # The first run captures the CUDA graph, if there is one, with the addresses that it is given.
        plain = self._session.run(request["outputs"], fed) if not on_gpu else None
        self._taken = {}
        for number, name in enumerate(request["outputs"]):
            like = plain[number] if plain is not None else self._as_described(name)
            self._taken[name] = ort.OrtValue.ortvalue_from_numpy(like, *place)
            self._binding.bind_ortvalue_output(name, self._taken[name])
        for _ in range(3):
            self._infer()
        made = [value.numpy() for value in self._taken.values()]
        if len(made) == 1:
            np.save(request["output"], made[0])
        else:
            np.savez(request["output"], **{f"array_{number}": value for number, value in enumerate(made)})
        self.facts: Dict[str, Any] = {"loop": "run_with_iobinding", "clock": "perf_counter"}

    def _as_described(self, name: str) -> np.ndarray:
        """Memory for an output whose shape the graph tells."""
        value = next(one for one in self._session.get_outputs() if one.name == name)
        if not all(isinstance(size, int) for size in value.shape):
            raise Refusal(f"the shape of output '{name}' is not in the graph: {value.shape}")
        return np.empty(value.shape, {"tensor(float)": np.float32, "tensor(int64)": np.int64}[value.type])

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


def _arrays(path: str, names: List[str]) -> Dict[str, np.ndarray]:
    loaded = np.load(path)
    return {names[0]: loaded} if path.endswith(".npy") else {name: loaded[f"array_{i}"] for i, name in enumerate(names)}


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: Session(asked))
