"""Models with several inputs and outputs: reference units, batches of them, and parity output by output."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.harness import parity
from common.harness.adapter import Unsupported, only
from common.harness.reference import Reference, archive
from common.harness.rows import MOST_TEXT, fits, spelled
from common.model_files import ModelFiles, Tensor

UNITS = 3


def model(root: Path, fixed: int | None = None, outputs: tuple[Tensor, ...] = ()) -> ModelFiles:
    size = fixed or 1
    return ModelFiles(
        root=root, name="m", hash="0", onnx=None, keras=None, saved_model=None, reference="reference.npz", input_shape=(4,),
        layout="", onnx_input="x", onnx_output="y", output_kind="raw", classes=0, weights="user", weights_note="",
        inputs=(Tensor("x", "float32", (size, 4)), Tensor("state", "int64", (2, size, 1), 1), Tensor("rate", "int64", (), None)),
        outputs=outputs or (Tensor("y", "float32", (size, 4)), Tensor("picked", "int64", (2, size), 1)),
        fixed_batch=fixed,
    )  # fmt: skip


def compute(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    picked = inputs["state"][:, :, 0] + np.argmax(inputs["x"], axis=1)[None, :]
    return {"y": inputs["x"] * float(inputs["rate"]), "picked": picked}


def reference(root: Path, fixed: int | None = None) -> Reference:
    made = model(root, fixed)
    rng = np.random.default_rng(3)
    inputs = [
        {
            "x": rng.standard_normal((made.unit_size, 4)).astype(np.float32),
            "state": rng.integers(0, 9, (2, made.unit_size, 1)),
            "rate": np.array(3),
        }
        for _ in range(UNITS)
    ]
    outputs = [compute(unit) for unit in inputs]
    np.savez(root / "reference.npz", **archive(made, inputs, outputs))
    return Reference.read(made)


@pytest.mark.parametrize(("fixed", "size"), [(None, 1), (None, 2), (None, 5), (4, 4)])
def test_batches_hold_every_unit_and_agree(tmp_path: Path, fixed: int | None, size: int) -> None:
    ours = reference(tmp_path, fixed)
    batches = ours.batches(size)
    assert [one["x"].shape for one in batches] == [(size, 4)] * len(batches)
    assert batches[0]["state"].shape == (2, size, 1)
    assert batches[0]["rate"].shape == ()
    verdict = parity.compare_all([compute(one) for one in batches], ours, size, "fp32")
    assert verdict.passed
    assert set(verdict.by_output) == {"y", "picked"}


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_worst_output_decides_and_is_named(tmp_path: Path, size: int) -> None:
    ours = reference(tmp_path)
    outputs = [compute(one) for one in ours.batches(size)]
    outputs[-1]["picked"] = outputs[-1]["picked"].copy()
    outputs[-1]["picked"][1, -1] += 1
    verdict = parity.compare_all(outputs, ours, size, "fp32")
    assert not verdict.passed
    assert (verdict.output, verdict.metric) == ("picked", "equality")
    assert verdict.rel_l2 == pytest.approx(1 / (2 * UNITS))
    assert verdict.by_output["y"] < 1e-6
    assert "'picked'" in verdict.reason


def test_a_sample_in_anothers_place_is_seen(tmp_path: Path) -> None:
    ours = reference(tmp_path)
    outputs = [{**compute(one), "y": compute(one)["y"][::-1]} for one in ours.batches(3)]
    assert parity.compare_all(outputs, ours, 3, "fp32").output == "y"


def test_a_wrong_number_of_values_is_reported_with_shapes(tmp_path: Path) -> None:
    ours = reference(tmp_path)
    outputs = [{**compute(one), "y": np.zeros((1, 5), np.float32)} for one in ours.batches(1)]
    verdict = parity.compare_all(outputs, ours, 1, "fp32")
    assert not verdict.passed
    assert "'y' has the shape (1, 5), the reference (1, 4)" in verdict.reason
    assert verdict.columns["parity_rel_l2"] is None
    assert json.loads(verdict.columns["parity_by_output"])["y"] is None


def test_an_error_names_its_output_even_where_there_is_one(tmp_path: Path) -> None:
    ours = reference(tmp_path)
    one = replace(ours, model=replace(ours.model, outputs=ours.model.outputs[:1]))
    name = one.model.outputs[0].name
    outputs = [{name: compute(batch)[name] * 2} for batch in ours.batches(1)]
    assert f"of output '{name}' is 1," in parity.compare_all(outputs, one, 1, "fp32").reason


#: names that a model may have and a row may not, as the row has them
UNPRINTABLE = {
    "out'\"put\nline": "out'\"put\\nline",
    "\x1b[31mred": "\\x1b[31mred",
    "no\u00a0break": "no\\xa0break",
    "wide\u3000space": "wide\\u3000space",
    "half\ud800": "half\\ud800",
    "a\\n": "a\\\\n",
    "größe 大": "größe 大",
}


@pytest.mark.parametrize("name", UNPRINTABLE)
@pytest.mark.parametrize("right", [True, False])
def test_a_name_that_no_row_may_have_is_found_and_spelled(tmp_path: Path, name: str, right: bool) -> None:
    ours = reference(tmp_path)
    outputs = tuple(replace(one, name=name) if one.name == "y" else one for one in ours.model.outputs)
    units = [{name if key == "y" else key: value for key, value in unit.items()} for unit in ours.outputs]
    named = replace(ours, model=replace(ours.model, outputs=outputs), outputs=units)
    got = [
        {name: compute(one)["y"] * (1 + 1e-6 if right else 2), "picked": compute(one)["picked"]}
        for one in named.batches(1)
    ]
    verdict = parity.compare_all(got, named, 1, "fp32")
    assert (verdict.passed, verdict.output) == (right, name)
    assert verdict.columns["parity_output"] == UNPRINTABLE[name]
    assert set(json.loads(verdict.columns["parity_by_output"])) == {UNPRINTABLE[name], "picked"}
    assert right or f"of output '{UNPRINTABLE[name]}' is 1," in verdict.reason
    assert right or fits(verdict.reason)


def test_a_name_without_end_is_cut() -> None:
    assert fits(spelled("\n" * 40_000))


def test_of_many_outputs_the_worst_are_told_and_how_many_more_there_are() -> None:
    worst = parity.Parity("raw", 1e-3, 0.5, 0.5, 1.0, 1.0, 0.0, output="the one\nthat decides")
    errors = {f"StatefulPartitionedCall:{place}": place / 1e9 for place in range(1500)}
    errors = {**errors, "StatefulPartitionedCall:7": float("nan"), worst.output: 1e-12}
    columns = replace(worst, by_output=errors).columns
    assert len(columns["parity_by_output"]) > 0.99 * MOST_TEXT
    assert fits(columns["parity_by_output"])
    told = json.loads(columns["parity_by_output"])
    left_out = told.pop(parity.LEFT_OUT)
    assert left_out == f"{len(errors) - len(told)} more outputs"
    assert list(told)[:3] == ["the one\\nthat decides", "StatefulPartitionedCall:7", "StatefulPartitionedCall:1499"]
    assert told["StatefulPartitionedCall:7"] is None
    assert min(list(told.values())[2:]) * 1e9 == pytest.approx(1500 - len(told) + 2)


def test_outputs_whose_long_names_begin_alike_are_counted_too() -> None:
    errors = {"x" * 600 + end: error for end, error in (("a", 0.1), ("b", 0.3), ("c", 0.2))}
    text = replace(parity.Parity("raw", 1, 0.3, 0.3, None, None, 0.0), by_output=errors).columns["parity_by_output"]
    assert json.loads(text) == {"x" * 497 + "...": 0.3, parity.LEFT_OUT: "2 more outputs"}


def test_where_the_reference_is_not_finite_the_output_must_be_the_same() -> None:
    wanted = np.array([[1.0, np.nan, np.inf, -np.inf]])
    assert parity.relative_l2(wanted.copy(), wanted) == 0
    for place, value in ((1, 0.0), (2, -np.inf), (3, 5.0), (0, np.nan)):
        got = wanted.copy()
        got[0, place] = value
        assert not parity.relative_l2(got, wanted) <= 0.1


def test_an_output_without_a_batch_axis_is_compared_one_by_one_only(tmp_path: Path) -> None:
    whole = (Tensor("sum", "float32", (4,), None),)
    made = model(tmp_path, outputs=whole)
    ours = reference(tmp_path)
    sums = [{"sum": unit["x"].sum(axis=0)} for unit in ours.inputs]
    alone = Reference(made, ours.inputs, sums)
    assert parity.compare_all(sums, alone, 1, "fp32").passed
    with pytest.raises(Unsupported, match="no output has a batch axis"):
        parity.compare_all(sums[:2], alone, 2, "fp32")


@pytest.mark.parametrize("made", [np.float32(3), np.zeros((), np.float32)])
def test_a_scalar_where_a_batch_should_come_out_fails_in_words(tmp_path: Path, made: np.ndarray) -> None:
    ours = reference(tmp_path)
    outputs = [{**compute(one), "y": np.asarray(made)} for one in ours.batches(2)]
    verdict = parity.compare_all(outputs, ours, 2, "fp32")
    assert not verdict.passed
    assert "'y'" in verdict.reason
    assert "shape" in verdict.reason


def test_a_reference_of_single_numbers_does_not_fit(tmp_path: Path) -> None:
    one = replace(model(tmp_path), inputs=(Tensor("x", "float32", (1, 4)),), outputs=(Tensor("y", "float32", (1, 4)),))
    for inputs, outputs in ((np.float32(1), np.zeros((1, 4))), (np.zeros((1, 4)), np.float32(1))):
        np.savez(tmp_path / "reference.npz", inputs=inputs, outputs=outputs)
        with pytest.raises(ValueError, match="do not fit"):
            Reference.read(one)


@pytest.mark.parametrize(
    ("shape", "axis", "fits"),
    [([1, 4], 0, True), ([2, 1], 1, True), ([], None, True), ([], 0, False), ([4], 1, False), ([1, 4], -1, False)],
)
def test_a_description_has_its_batch_on_an_axis_that_there_is(
    tmp_path: Path, shape: list[int], axis: int | None, fits: bool
) -> None:
    described = model(tmp_path).describe()
    described["inputs"] = [{"name": "x", "dtype": "float32", "shape": shape, "batch_axis": axis, "kind": "raw"}]
    (tmp_path / "model.json").write_text(json.dumps(described))
    if fits:
        assert ModelFiles.read(tmp_path).inputs[0].shape == tuple(shape)
        return
    with pytest.raises(ValueError, match=rf"not a model description: .*has no axis {axis} to be the batch"):
        ModelFiles.read(tmp_path)


def test_a_description_from_before_there_could_be_several_has_one_of_each(tmp_path: Path) -> None:
    old = ModelFiles(
        root=tmp_path, name="m", hash="0", onnx=None, keras=None, saved_model=None, reference="r.npz", input_shape=(4, 4, 3),
        layout="NHWC", onnx_input="input", onnx_output="probabilities", output_kind="probabilities", classes=10,
        weights="seeded", weights_note="",
    )  # fmt: skip
    assert old.inputs == (Tensor("input", "float32", (1, 4, 4, 3)),)
    assert old.outputs == (Tensor("probabilities", "float32", (1, 10), 0, "probabilities"),)
    assert old.inputs[0].sized(8) == (8, 4, 4, 3)


def test_an_adapter_for_one_input_says_which_it_cannot_feed() -> None:
    assert only({"x": np.zeros(2)}).shape == (2,)
    with pytest.raises(Unsupported, match="not 2 \\(x, mask\\)"):
        only({"x": np.zeros(2), "mask": np.ones(2)})


@pytest.mark.parametrize(
    ("precision", "weights", "judged"),
    [
        ("fp32", "float32", "fp32"),
        ("fp32", "float16", "fp16"),
        ("fp32", "int8 (quantized: QDQ)", "int8"),
        ("int8", "float16", "int8"),
        ("fp16", "", "fp16"),
    ],
)
def test_the_coarser_of_precision_and_weights_is_judged(precision: str, weights: str, judged: str) -> None:
    assert parity.judged_as(precision, weights) == judged


def test_an_output_that_is_drawn_anew_in_every_run_is_not_compared(tmp_path: Path) -> None:
    still, drawn = Tensor("y", "float32", (1, 4)), Tensor("picked", "int64", (2, 1), 1, "random")
    ours = reference(tmp_path)
    outputs = [{**compute(one), "picked": compute(one)["picked"] + 5} for one in ours.batches(1)]
    some = Reference(model(tmp_path, outputs=(still, drawn)), ours.inputs, ours.outputs)
    verdict = parity.compare_all(outputs, some, 1, "fp32")
    assert verdict.passed
    assert set(verdict.by_output) == {"y"}
    none = Reference(model(tmp_path, outputs=(drawn,)), ours.inputs, ours.outputs)
    verdict = parity.compare_all(outputs, none, 1, "fp32")
    assert verdict.passed
    assert not verdict.compared
