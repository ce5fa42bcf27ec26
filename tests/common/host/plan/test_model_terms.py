"""What a model decides whatever is asked: in what type its pictures are fed, and the size of its batch."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from common.host.plan.jobs import make_plan, planned_keys
from common.host.plan.model_terms import ModelTerms, common_terms, fitted, inputs_of
from common.host.plan.options import Options
from common.host.plan.request import Request, settings_of
from common.host.plan.subset import work_key
from common.model_files import ModelFiles, Tensor
from tests.common.host.plan.test_refusals import FAST


def model(*kinds: str) -> ModelFiles:
    inputs = tuple(Tensor(f"p[{number}]", kind, (1, 3, 8, 8)) for number, kind in enumerate(kinds))
    return ModelFiles(
        root=Path(), name="m", hash="0", onnx=None, keras=None, saved_model=None, reference="r", input_shape=(3, 8, 8),
        layout="NCHW", onnx_input="p", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
        inputs=inputs, outputs=(Tensor("y", "float32", (1, 4)),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "asked", "fed", "words"),
    [
        (("float32",), ("float32", "uint8"), ("float32", "uint8"), ""),
        # rows of it said float32
        (("uint8",), ("float32",), ("uint8",), "m takes pictures of bytes: it is fed uint8"),
        (("uint8",), ("uint8",), ("uint8",), ""),
        (("float32", "float16"), ("float32",), ("float32",), ""),
        (("float32", "float16"), ("uint8",), ("uint8",), "feeds 'p[0]' as bytes; 'p[1]' as the numbers"),
    ],
)
def test_inputs(kinds: tuple[str, ...], asked: tuple[str, ...], fed: tuple[str, ...], words: str) -> None:
    out = io.StringIO()
    assert inputs_of(asked, model(*kinds), Console(file=out, width=300)) == fed
    assert words in out.getvalue()
    assert bool(out.getvalue()) is bool(words)


def request(options: Options) -> Request:
    sizes = tuple(map(int, (options.batch_sizes or "1,8").split(",")))
    return Request(
        variants=(FAST,), precisions=("fp32", "fp16"), batch_sizes=sizes, io_modes=("host", "device"), model="a_b_c",
        model_hash="", devices=("gpu0",), device_uuids=("",), replicates=2, runner="local", settings=settings_of(options),
        tunings=("stock", "tuned"), inputs=tuple(options.input.split(",")),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("fixed", [None, 4])
@pytest.mark.parametrize("options", [Options(), Options(input="float32,uint8"), Options(batch_sizes="1,2,4")])
def test_a_cell_that_was_planned_without_the_model_has_its_place_in_the_plan_with_it(
    kind: str, fixed: int | None, options: Options
) -> None:
    """Hosts of a fleet refused such cells, and plans called them missing for ever."""
    found = replace(model(kind), fixed_batch=fixed)
    terms = ModelTerms.of(found)
    asked = request(options)
    fits = fitted(asked, options, found, Console(quiet=True))
    assert fits == terms.fit(asked, options)
    assert fits.inputs == (("uint8",) if kind == "uint8" else asked.inputs)
    assert fits.batch_sizes == ((4,) if fixed and not options.batch_sizes else asked.batch_sizes)
    before, after = ([work_key(key) for key in planned_keys(make_plan(one, 5))] for one in (asked, fits))
    assert {terms.fit_key(key, options) for key in before} == set(after)
    assert [terms.fit_key(key, options) for key in after] == after


def test_terms_are_read_from_a_description_and_hold_where_all_of_a_name_have_the_same() -> None:
    found = model("uint8")
    assert ModelTerms.of_description(found.describe()) == ModelTerms(takes_bytes=True)
    assert ModelTerms.of_description({"name": "m"}) is ModelTerms.of_description(None) is None
    one, other = ModelTerms(True), ModelTerms(False)
    assert common_terms([("a", one), ("a", one), ("b", one), ("b", other), ("c", None), ("d", one), ("d", None)]) == {
        "a": one
    }
