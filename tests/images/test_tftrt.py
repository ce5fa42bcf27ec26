"""`tftrt`'s converted models on disk, with stand-ins for TensorFlow and its converter: whole, whoever else makes them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from images.tensorflow.tftrt import TfTrt

NODE = SimpleNamespace(op="TRTEngineOp")


class FakeTensorFlow:
    """Loads what FakeConverter saved, and nothing else."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.saved_model = SimpleNamespace(load=self._load)

    def _load(self, folder: str) -> Any:
        text = (Path(folder) / "variables" / "data").read_text()
        if not text.endswith("whole"):
            raise ValueError(f"{folder} is broken")
        self.loaded.append(text)
        graph = SimpleNamespace(as_graph_def=lambda: SimpleNamespace(node=[NODE], library=SimpleNamespace(function=[])))
        return SimpleNamespace(signatures={"serving_default": SimpleNamespace(graph=graph)})


@pytest.fixture
def converters(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """made: how many there were. meanwhile: called in the middle of the next one's saving. fails: whether the saving does."""
    state = SimpleNamespace(made=0, meanwhile=None, fails=False)

    class FakeConverter:
        def __init__(self, **arguments: Any) -> None:
            state.made += 1
            self._text = f"{state.made} "

        def convert(self) -> None: ...

        def build(self, input_fn: Any) -> None:
            list(input_fn())

        def save(self, folder: str) -> None:
            file = Path(folder) / "variables" / "data"
            file.parent.mkdir(parents=True)
            file.write_text(self._text)
            meanwhile, state.meanwhile = state.meanwhile, None
            if meanwhile is not None:
                meanwhile()
            if state.fails:
                raise OSError("no space left")
            file.write_text(f"{self._text}whole")

    module = SimpleNamespace(TrtGraphConverterV2=FakeConverter)
    monkeypatch.setitem(sys.modules, "tensorflow.python.compiler.tensorrt.trt_convert", module)
    return state


def worker(cache: Path) -> tuple[TfTrt, FakeTensorFlow]:
    tensorflow = FakeTensorFlow()
    inference = TfTrt(tensorflow, cache)
    inference._key, inference._precision = "net-0123456789ab-fp16", "fp16"
    return inference, tensorflow


IMAGES = [np.zeros((8, 4), np.float32)]


def test_two_workers_of_one_process_id_that_build_at_once_both_go_on(tmp_path: Path, converters: Any) -> None:
    cache = tmp_path / "new" / "tensorflow"
    one, tensorflow_of_one = worker(cache)
    other, tensorflow_of_other = worker(cache)
    converters.meanwhile = lambda: other.specialize(IMAGES)
    one.specialize(IMAGES)
    assert tensorflow_of_other.loaded == ["2 whole"] and tensorflow_of_one.loaded == ["2 whole"]
    assert [path.name for path in cache.iterdir()] == ["net-0123456789ab-fp16-b8"]


def test_a_broken_one_is_built_again(tmp_path: Path, converters: Any) -> None:
    broken = tmp_path / "net-0123456789ab-fp16-b8" / "variables"
    broken.mkdir(parents=True)
    (broken / "data").write_text("half")
    inference, tensorflow = worker(tmp_path)
    inference.specialize(IMAGES)
    assert tensorflow.loaded == ["1 whole"] and [path.name for path in tmp_path.iterdir()] == [broken.parent.name]


def test_nothing_is_left_of_a_build_that_failed(tmp_path: Path, converters: Any) -> None:
    converters.fails = True
    inference, _ = worker(tmp_path)
    with pytest.raises(OSError, match="no space left"):
        inference.specialize(IMAGES)
    assert list(tmp_path.iterdir()) == []
