"""Runs in a framework's interpreter: `host_input_driver.py REQUEST.json`, facts as JSON to the file that it names.

Prepares a cell with io=host, then writes another input straight into the host's memory that the adapter feeds from, past
prepare(), between inferences. An adapter or framework that took the input of an inference before, in place of copying it,
would give the output of that.
"""

import ctypes
import functools
import importlib.util
import json
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

BATCH_SIZE = 2
#: in flight at once: more than any adapter has buffers for
QUEUED = 5


def host_arrays(holder) -> Iterator[np.ndarray]:
    """Every array in host memory that `holder` (an adapter) has within reach, as numpy sees it: no copies.

    Goes through containers, what partial functions and closures are bound to, and objects of classes of ours. A tensor of a
    framework is an array if it lies on the CPU.
    """
    seen, stack = set(), [holder]
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            yield one
        elif isinstance(one, Mapping):
            stack += one.values()
        elif isinstance(one, (list, tuple, set)):
            stack += one
        elif isinstance(one, functools.partial):
            stack += [one.func, *one.args, *one.keywords.values()]
        elif isinstance(one, types.MethodType):
            stack.append(one.__self__)
        elif isinstance(one, types.FunctionType):
            stack += [cell.cell_contents for cell in one.__closure__ or ()]
        elif type(one).__name__ in ("Tensor", "EagerTensor") and "cpu" in str(getattr(one, "device", "")).lower():
            yield one.detach().numpy() if hasattr(one, "detach") else np.asarray(one)
        elif type(one).__module__.split(".")[0] in ("images", "common", "adapter_under_test"):
            stack += vars(one).values()


def write_over(adapter, before, after) -> int:
    """Writes `after` into each array that holds what `before` holds, an input apiece; how many there were."""
    places = 0
    for array in list(host_arrays(adapter)):
        for name, values in before.items():
            if array.shape == values.shape and array.dtype == values.dtype and np.array_equal(array, values):
                assert array.flags.c_contiguous
                # past numpy: a framework's view of its own memory may be read-only
                ctypes.memmove(array.ctypes.data, np.ascontiguousarray(after[name]).ctypes.data, array.nbytes)
                places += 1
    return places


def one_run(adapter):
    adapter.run()


def timed_run(adapter):
    if adapter.run_timed() is None:
        adapter.run()


def queued(adapter):
    for _ in range(QUEUED):
        adapter.enqueue()
    adapter.synchronize()


WAYS = {"run": one_run, "run_timed": timed_run, "enqueue": queued}


def make_adapter(request):
    spec = importlib.util.spec_from_file_location("adapter_under_test", request["adapter"])
    module = importlib.util.module_from_spec(spec)
    sys.modules["adapter_under_test"] = module
    spec.loader.exec_module(module)
    adapter = module.create(request["variant"])
    if hasattr(adapter, "tune"):
        adapter.tune(request["level"])
    return adapter


def far(made, expected) -> float:
    """Relative L2 distance of all outputs together."""
    one, other = (np.concatenate([np.ravel(x[name]).astype(np.float64) for name in expected]) for x in (made, expected))
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def kept(output):
    """The adapter may give its own memory."""
    return {name: np.array(values) for name, values in output.items()}


def prepared_with(adapter, given):
    """The output for these inputs, of which the adapter gets copies: it may keep the arrays, which are written over later."""
    adapter.prepare({name: values.copy() for name, values in given.items()}, "host")
    adapter.run()
    return kept(adapter.output())


def as_bytes(adapter, cell, model, one, other, expected):
    """The same with images of bytes, right after those of numbers: places are of bytes, outputs are compared with the numbers'."""
    from dataclasses import replace

    from common.harness.adapter import Unsupported
    from common.harness.reference import as_fed

    one, other = (as_fed(given, "uint8", model) for given in (one, other))
    if hasattr(adapter, "expect"):
        adapter.expect(replace(cell, input="uint8"))
    try:
        before = prepared_with(adapter, one)
    except Unsupported as error:
        return {"refusal": str(error)}
    places = write_over(adapter, one, other)
    adapter.run()
    after = kept(adapter.output())
    return {
        "refusal": None, "places": places, "before": far(before, expected[1]), "after_is_new": far(after, expected[0]),
        "after_is_old": far(after, expected[1]),
    }  # fmt: skip


def written(request):
    """Of each scenario and way to run: places written, and how far the output is from those of both inputs."""
    from common.cell import Cell
    from common.harness.adapter import Unsupported
    from common.harness.reference import Reference
    from common.model_files import ModelFiles
    from tests.images import untimed

    untimed.take_the_first_that_works()
    model = ModelFiles.read(Path(request["model"]))
    reference = Reference.read(model)
    one, other = reference.batch(BATCH_SIZE), reference.batch(BATCH_SIZE, BATCH_SIZE)
    facts = {"refusal": None, "cells": []}
    adapter = make_adapter(request)
    device = "cpu" if request["device"] == "cpu" else "gpu0"
    for scenario in ("single-stream", "offline"):
        cell = Cell("m", request["variant"], request["precision"], BATCH_SIZE, device=device, scenario=scenario)
        refusal = adapter.supports(cell)
        if refusal:
            return {"refusal": refusal}
        if hasattr(adapter, "expect"):
            adapter.expect(cell)
        if scenario == "single-stream":
            try:
                if hasattr(adapter, "convert"):
                    adapter.convert(model, request["precision"], request["device"], request["cache_dir"])
                adapter.load(model, request["precision"], request["device"], request["cache_dir"], 1)
            except Unsupported as error:
                return {"refusal": str(error)}
        expected = [prepared_with(adapter, given) for given in (other, one)]
        for way, run in WAYS.items():
            run(adapter)
            before = far(kept(adapter.output()), expected[1])
            places = write_over(adapter, one, other)
            run(adapter)
            after = kept(adapter.output())
            back = write_over(adapter, other, one)
            run(adapter)
            facts["cells"].append(
                {
                    "scenario": scenario, "way": way, "places": places, "places_back": back,
                    "inputs_apart": far(*expected), "before": before, "after_is_new": far(after, expected[0]),
                    "after_is_old": far(after, expected[1]), "restored": far(kept(adapter.output()), expected[1]),
                }
            )  # fmt: skip
    facts["settings"] = adapter.settings()
    if request["bytes_too"]:
        facts["as_bytes"] = as_bytes(adapter, cell, model, one, other, expected)
    adapter.close()
    return facts


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, asked["repository"])
    Path(asked["answer"]).write_text(json.dumps(written(asked)))
