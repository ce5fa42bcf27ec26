"""Run with an interpreter that has torch: FILE FUNCTION... For each function a JSON line: what is said of it, "" where it is taken.

What stands below is also the file of the user's: the functions named build modules that are taken, and others that are not.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

x = torch.rand(2, 4)


class Sum(nn.Module):
    def forward(self, a, b):
        return {"sum": a + b, "name": "no tensor"}


class Free(nn.Module):
    """A number that no state_dict keeps, drawn when it is built: the same where the seed is."""

    def __init__(self):
        super().__init__()
        self.scale = torch.rand(1)

    def forward(self, a):
        return a * self.scale


class Noise(nn.Module):
    def forward(self, a):
        return a + torch.randn_like(a)


class Saying(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, a):
        if isinstance(self.what, BaseException):
            raise self.what
        return a * self.what if isinstance(self.what, complex) else self.what


class InPlace(nn.Module):
    def forward(self, a):
        return a.div_(255) * 2


class InPlaceOfData(nn.Module):
    def forward(self, a):
        a.data.add_(1)
        return a * 2


class ToMeta(nn.Module):
    def forward(self, a):
        return a.to("meta")


class Counting(nn.Module):
    """A counter that is a buffer, one that is a number, a mask made at the first call, and a weight that is written to."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.calls = 0
        self.weight = nn.Parameter(torch.tensor([-1.0, 2.0, 3.0, 4.0]))

    def forward(self, a):
        self.steps += 1
        self.calls += 1
        if not hasattr(self, "mask"):
            self.register_buffer("mask", torch.ones(4))
        self.weight.data.clamp_(min=0)
        return a * self.weight * self.mask


class Remembering(nn.Module):
    def __init__(self, of_numpy=False):
        super().__init__()
        self.register_buffer("sum", torch.zeros(4))
        self.of_numpy = of_numpy

    def forward(self, a):
        self.sum += a[0]
        return a + np.random.rand() if self.of_numpy else a + self.sum


class Locked(nn.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, a):
        with self.lock:
            self.steps = self.steps + 1
            return a * 2


class Keeping(nn.Module):
    """Fills a dict with what it computes of its weight, at its first call, and changes what its attributes hold at every one."""

    def __init__(self, cache):
        super().__init__()
        self.cache = cache
        self.past, self.state = deque(maxlen=3), {"steps": [torch.zeros(4)]}
        self.weight = nn.Parameter(torch.arange(4.0))

    def forward(self, a):
        if "doubled" not in self.cache:
            self.cache["doubled"] = self.weight * 2
        self.past.append(a)
        self.state["steps"][0] = self.state["steps"][0] + 1
        return a * self.cache["doubled"]


class Retyping(nn.Module):
    """Gives its weight another type and shape, and only then writes to a buffer."""

    def __init__(self, state=None):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(4.0))
        self.register_buffer("count", torch.zeros(()) if state is None else state)

    def forward(self, a):
        self.weight.data = self.weight.data.double().reshape(2, 2)
        self.count += 1
        return a * self.weight.reshape(4).float()


class ElsewhereAgain(nn.Module):
    def forward(self, a):
        self.was_called = hasattr(self, "was_called") or None
        return a.to("meta") if self.was_called else a


class Sparse(nn.Module):
    def forward(self, a):
        return a.to_sparse()


class Extra(nn.Linear):
    """Keeps in its state_dict what is no tensor, too."""

    def get_extra_state(self):
        return {"version": 2}

    def set_extra_state(self, state):
        self.version = state["version"]


class Deaf(nn.Linear):
    def train(self, mode=True):
        raise RuntimeError("it has no modes")


def times_built():
    os.environ["BUILT"] = str(int(os.environ.get("BUILT", "0")) + 1)
    return int(os.environ["BUILT"])


def in_place():
    return InPlace(), x * 200


def in_place_twice_the_same():
    return nn.ReLU(inplace=True), x - 0.5


def in_place_unseen():
    return InPlaceOfData(), x * 200


def counts():
    return Counting(), x


def lazy_and_counts():
    return nn.Sequential(nn.LazyLinear(4), Counting()), x


def cannot_be_copied():
    return Locked(), x


def fills_a_dict():
    return Keeping({}), x


OF_THE_FILE = {}


def fills_a_dict_of_the_file():
    return Keeping(OF_THE_FILE), x


def retypes_its_weight():
    return Retyping(), x


def with_extra_state():
    return Extra(4, 2), x


def holds_its_input():
    held = x.clone()
    return Retyping(held), held


def elsewhere_again():
    return ElsewhereAgain(), x


def elsewhere_when_built_again():
    return (nn.Identity() if times_built() == 1 else ToMeta()), x


def sparse_when_built_again():
    return (nn.Identity() if times_built() == 1 else Sparse()), x


def imaginary_part():
    return nn.Identity(), torch.view_as_complex(torch.rand(2, 4, 2)).conj().imag


def with_gradients():
    return nn.Linear(4, 2), x.clone().requires_grad_()


def remembers():
    return Remembering(), x


def random_of_numpy():
    return Remembering(of_numpy=True), x


def no_modes():
    return Deaf(4, 2), x


def small_values_each_time():
    made = Free()
    made.scale *= 1e-6 * times_built()
    return made, x


def no_tuple_again():
    made = nn.Linear(4, 2)
    return (made, x) if times_built() == 1 else made


def fails_again():
    return (nn.Identity() if times_built() == 1 else Saying(KeyError("cache"))), x


def leaves_again():
    return (nn.Identity() if times_built() == 1 else Saying(SystemExit(0))), x


def trained():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.Linear(8, 2)).train(), x


def by_keywords():
    return Sum(), {"b": x, "a": x + 1}


def free():
    return Free(), x


def noise():
    return Noise(), x


def lazy():
    return nn.LazyLinear(2), x


def half():
    return nn.Linear(4, 2).half(), x.half()


def wrong_order():
    return x, nn.Linear(4, 2)


def generator():
    yield nn.Linear(4, 2), x


def number():
    return nn.Linear(4, 2), (3.5,)


def nested():
    return Sum(), ((x, x), x)


def empty():
    return nn.Linear(4, 2), torch.rand(0, 4)


def complex_in():
    return nn.Identity(), x.to(torch.complex64)


def bfloat16():
    return nn.Linear(4, 2).bfloat16(), x.bfloat16()


def elsewhere():
    return nn.Linear(4, 2), x.to("meta")


def sparse():
    return nn.Linear(4, 2), x.to_sparse()


def whole_numbers():
    return nn.Linear(4, 2), torch.arange(8).reshape(2, 4)


def too_many():
    return nn.Linear(4, 2), (x, x)


def two_sizes():
    return Sum(), (x, torch.rand(3, 4))


def no_output():
    return Saying("text"), x


def complex_out():
    return Saying(1j), x


def out_elsewhere():
    return ToMeta(), x


def refuses():
    return Saying(ValueError("width must be 7\nsecond line")), x


def leaves():
    return Saying(SystemExit(7)), x


def scripted():
    return torch.jit.script(nn.Linear(4, 2)), x


def other_size_each_time():
    return nn.Linear(4, times_built()), x


def other_values_each_time():
    made = Free()
    made.scale *= times_built()
    return made, x


def with_a_neighbour():
    if not Path(__file__).name.startswith("run_"):
        raise FileNotFoundError("there is no weights.pt beside it")
    return nn.Linear(4, 2), x


def tried(file, function, place):
    """What is said of it, or how it or its inputs were changed; "" where it is taken and a worker can call it again and again."""
    os.environ.pop("BUILT", None)
    kept = place / "torch"
    given = torch_modules.of_file(file, function)
    inputs = {name: one.clone() for name, one in given.inputs.items()}
    is_lazy = any(map(torch.nn.parameter.is_lazy, given.module.parameters()))
    state = {} if is_lazy else copy.deepcopy(given.module.state_dict())
    built, outputs, weights = module_checks.check_forward(given)
    torch_modules.save(built, weights, f"{file}:{function}", kept, file)
    module_checks.check_kept(built, outputs, kept)
    saved = torch.load(kept / torch_modules.WEIGHTS, weights_only=True)
    if not is_lazy and (
        saved.keys() != state.keys() or not all(same_value(saved[name], state[name]) for name in state)
    ):
        return "its weights were changed"
    if "steps" in "".join(saved) and any(one.item() for name, one in saved.items() if "steps" in name):
        return "it was saved after a step"
    worker, same = torch_modules.load(kept), []
    with torch.inference_mode():
        for _ in range(2):
            torch.manual_seed(torch_modules.SEED)
            same.append(worker(*built.inputs.values()))
    if not all(torch.equal(inputs[name], built.inputs[name]) for name in inputs):
        return "its inputs were changed"
    if not (isinstance(same[0], tuple) or torch.equal(*same)):
        return "a worker gets other outputs the second time"
    return exported(f"{file}:{function}", place / "models")


def same_value(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def exported(text, out):
    """What is wrong with what is given to torch.onnx, for which something stands that fails the first time; "" where nothing is."""
    called, faults, beside = [], [], []
    node = SimpleNamespace(metadata_props={torch_onnx._TRACE: __file__, "namespace": "module"})
    graph = SimpleNamespace(all_nodes=lambda: [node], initializers={}, inputs=[], outputs=[])

    def exporter(flat, values, dynamic_shapes, **_):
        if any(part in called for part in flat.modules()):
            faults.append("what is traced has been called before")
        if dynamic_shapes:
            flat(*values)
            raise ValueError("this batch alone")
        if type(flat.module).__name__ == "Keeping":  # of the file, imported once more
            nodes = torch.export.export(flat, values, strict=False).graph.nodes
            if not any(one.op == "placeholder" and "weight" in one.name and one.users for one in nodes):
                faults.append("its weight is traced as a constant")
        return SimpleNamespace(model=SimpleNamespace(graph=graph, functions={}), save=save)

    def save(path, external_data):
        beside.append(external_data)
        Path(path).touch()

    real, torch.onnx.export = torch.onnx.export, exporter
    hook = nn.modules.module.register_module_forward_pre_hook(lambda module, _: called.append(module))
    os.environ.pop("BUILT", None)
    try:
        for limit in (torch_onnx.INLINE_BYTES, 0):
            torch_onnx.INLINE_BYTES = limit
            torch_onnx.export(text, out, "auto", PixelValues(), SimpleNamespace(step=lambda text: None))
    finally:
        torch_onnx.INLINE_BYTES = INLINE_BYTES
        torch.onnx.export = real
        hook.remove()
    if beside != [False, True]:
        faults.append(f"weights beside the ONNX file, below the limit and above: {beside}")
    if list(node.metadata_props) != ["namespace"]:
        faults.append("paths of this machine are in the ONNX file")
    return "; ".join(faults)


if __name__ == "__main__":
    from common import torch_modules
    from common.errors import UserError
    from common.export import module_checks, torch_onnx
    from common.pixels import PixelValues

    INLINE_BYTES = torch_onnx.INLINE_BYTES
    for function in sys.argv[2:]:
        with tempfile.TemporaryDirectory() as place:
            try:
                result = tried(Path(sys.argv[1]), function, Path(place))
            except UserError as error:
                result = str(error)
        print(json.dumps(result))
