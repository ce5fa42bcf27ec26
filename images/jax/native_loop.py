"""Keras on JAX without framewatt, for `invoke verify`: `native_loop.py REQUEST.json`, see common/alternation.py.

As the documentations of Keras and JAX have it: load_model, stateless_call, jax.jit, block_until_ready.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path[0] = str(Path(__file__).resolve().parents[2])
os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import numpy as np  # noqa: E402

from common.interleaving import Refusal, plain_loop, serve  # noqa: E402

_MATMUL = {"fp32": "highest", "tf32": "tensorfloat32"}


class Loop:
    def __init__(self, request: Dict[str, Any]) -> None:
        if request["precision"] not in _MATMUL:
            raise Refusal(f"no independent loop for {request['precision']}: the adapter makes that network itself")
        if request["device"] == "cpu" and request["threads"]:
            os.environ["NPROC"] = str(request["threads"])  # before the first use of a device
        import jax
        import keras

        if request["device"] == "cpu":
            jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_default_matmul_precision", _MATMUL[request["precision"]])
        model = keras.saving.load_model(request["keras"], compile=False)
        trained = [variable.value for variable in model.trainable_variables]
        fixed = [variable.value for variable in model.non_trainable_variables]

        @jax.jit
        def predict(trained: Any, fixed: Any, images: Any) -> Any:
            return model.stateless_call(trained, fixed, images, training=False)[0]

        batch = np.load(request["input"])
        images = batch if request["io"] == "host" else jax.device_put(batch)
        self._host = request["io"] == "host"
        self._call = lambda: predict(trained, fixed, images)
        for _ in range(3):
            result = self._infer()
        np.save(request["output"], np.asarray(result, dtype=np.float32).reshape(len(batch), -1))
        self.facts: Dict[str, Any] = {"loop": "jax.jit of model.stateless_call", "clock": "perf_counter"}

    def _infer(self) -> Any:
        return np.asarray(self._call()) if self._host else self._call().block_until_ready()

    def block(self, seconds: float) -> List[int]:
        return plain_loop(self._infer, seconds)


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    serve(lambda: Loop(asked))
