"""Run with an interpreter that has torch: what becomes of an error that torch.onnx ends with, and what lies beside the ONNX file.

Something stands for torch.onnx itself. A line of JSON: case -> [batch, why it refuses], or the kind of what is raised.
"""

from __future__ import annotations

import errno
import json
import sys
import tempfile
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import torch

OWN = """
import torch

def build():
    return torch.nn.Linear(4, 2), torch.rand(2, 4)
"""


def raised_from(error, cause):
    error.__cause__ = cause
    return error


def its_own_cause():
    error = ValueError("round and round")
    return raised_from(error, error)


def in_folder(folder, number):
    return OSError(number, "what the machine says", str(folder / "model.onnx"))


#: case -> what the exporter raises, of the folder that is written to
RAISED = {
    "data-dependent": lambda folder: raised_from(RuntimeError("outer"), ValueError("data-dependent branch")),
    "its own cause": lambda folder: its_own_cause(),
    "torch's allocator": lambda folder: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:132] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    ),
    "memory, within": lambda folder: raised_from(RuntimeError("failed to decompose"), MemoryError()),
    "a missing file of the module": lambda folder: FileNotFoundError(
        errno.ENOENT, "no such file", "/nowhere/table.bin"
    ),
    "a connection of the module": lambda folder: ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    "no source": lambda folder: OSError("could not get source code"),
    "disk full": lambda folder: OSError(errno.ENOSPC, "no space left"),
    "too many files": lambda folder: OSError(errno.EMFILE, "too many open files"),
    "ours may not be written": lambda folder: in_folder(folder, errno.EACCES),
    "no onnxscript": lambda folder: ImportError("No module named 'onnxscript'"),
}


def program(save, *constants):
    """As torch.onnx.export gives one. constants: bytes of the initializers, None of one without a value."""
    values = [SimpleNamespace(const_value=None if one is None else SimpleNamespace(nbytes=one)) for one in constants]
    graph = SimpleNamespace(all_nodes=list, initializers={str(number): one for number, one in enumerate(values)})
    return SimpleNamespace(model=SimpleNamespace(graph=graph, functions={}), save=save)


def outcome(exporter, form, folder, built):
    torch.onnx.export = exporter
    try:
        return list(torch_onnx._to_onnx(built, form, folder / "model.onnx"))
    except Exception as error:
        return type(error).__name__


class Value(SimpleNamespace):
    def producer(self):
        return self.node


def named(names):
    """Names that the outputs of a small graph have after all: two of a node, one an input, one a node's output twice."""
    own = [Value(name=name, node=None if name == "x" else "node") for name in ("add_16", "argmax", "x")]
    outputs = [*own, own[0]]
    graph = SimpleNamespace(
        inputs=[own[2]], outputs=outputs, initializers={"w": Value(name="w", node=None)},
        all_nodes=lambda: [SimpleNamespace(outputs=[*own[:2], Value(name="between", node="node")])],
    )  # fmt: skip
    torch_onnx._name_outputs(graph, names)
    return [one.name for one in outputs]


def swapped(names):
    """Of three outputs, which each value is called after all, and whether two ever had one name."""
    taken, clashes = set(), []

    class Watched:
        def __init__(self, name):
            self._name = name
            taken.add(name)

        def producer(self):
            return "node"

        @property
        def name(self):
            return self._name

        @name.setter
        def name(self, name):
            taken.discard(self._name)
            clashes.extend({name} & taken)
            taken.add(name)
            self._name = name

    own = [Watched(name) for name in ("relu", "linear", "inner", "last")]
    graph = SimpleNamespace(
        inputs=[], outputs=[own[0], own[1], own[3]], initializers={}, all_nodes=lambda: [SimpleNamespace(outputs=own)]
    )
    torch_onnx._name_outputs(graph, names)
    return [*(one.name for one in own), *clashes]


def names_of_outputs():
    """What several kinds of output are called."""
    one = torch.zeros(2)
    Fields = namedtuple("Fields", "logits state")
    return [
        torch_modules.names_of(made)
        for made in (
            {"a": one, "n": one}, {"a": one, "cache": [one, {"keys": one}], "none": None}, Fields(one, one), one, (one, {"a": one}),
            {"a": {"b": one}, "a.b": one}, {"\n": one},
        )
    ]  # fmt: skip


def main(place):
    (place / "own.py").write_text(OWN)
    built = torch_modules.of_file(place / "own.py", "build")
    form, folder = place / "torch", place / "folder"
    torch_modules.save(built, built.module.state_dict(), f"{place}/own.py:build", form, place / "own.py")
    folder.mkdir()
    facts = {}
    for case, error in RAISED.items():

        def exporter(*given, error=error, **named):
            raise error(folder)

        facts[case] = outcome(exporter, form, folder, built)
        facts[f"saving: {case}"] = outcome(lambda *given, save=exporter, **named: program(save), form, folder, built)
    beside = []

    def save(path, external_data):
        beside.append(external_data)

    for constants in ((), (None, 60), (60, 41)):
        outcome(lambda *given, constants=constants, **named: program(save, *constants), form, folder, built)
    facts["beside"] = beside
    facts["names"] = names_of_outputs()
    facts["named"] = [named(names) for names in (["a", "n", "c", "d"], ["w", "between", "c", "d"], ["a"], [])]
    facts["swapped"] = [swapped(names) for names in (["linear", "relu", "z"], ["linear", "last", "inner"])]
    facts["a fault of ours"] = outcome(lambda *given, **named: SimpleNamespace(), form, folder, built)
    print(json.dumps(facts))


if __name__ == "__main__":
    from common import torch_modules
    from common.export import torch_onnx

    torch_onnx.INLINE_BYTES = 101
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
    sys.stdout.flush()
