"""Parity is arithmetic on two arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.harness import parity
from common.harness.reference import Reference
from common.model_files import ModelFiles, Tensor
from common.schema import PRECISIONS
from tests.common.harness.conftest import softmax


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 3, (8, 100))


def test_the_reference_itself_passes_everywhere(logits: np.ndarray) -> None:
    reference = softmax(logits)
    for precision in PRECISIONS:
        for kind in ("probabilities", "raw"):
            verdict = parity.compare(reference.astype(np.float32), reference, kind, precision)
            assert verdict.passed
            assert (verdict.top1, verdict.top5) == (1.0, 1.0)
            assert verdict.rel_l2 < 1e-6


def test_the_error_of_logits_is_found_through_the_softmax(logits: np.ndarray) -> None:
    noise = np.random.default_rng(4).normal(0, 1, logits.shape)
    noise -= noise.mean(axis=1, keepdims=True)
    centred = logits - logits.mean(axis=1, keepdims=True)
    noise *= 2e-3 * np.linalg.norm(centred) / np.linalg.norm(noise)
    verdict = parity.compare(softmax(logits + noise), softmax(logits), "probabilities", "fp32")
    assert verdict.metric == "logits"
    assert verdict.rel_l2 == pytest.approx(2e-3, rel=1e-6)
    assert not verdict.passed
    assert verdict.reason == "relative L2 error of logits is 0.002, at most 0.001 is allowed"
    assert parity.compare(softmax(logits + noise / 4), softmax(logits), "probabilities", "fp32").passed


@pytest.mark.parametrize(("precision", "scale", "passes"), [
    ("fp16", 0.04, True), ("fp16", 0.06, False), ("bf16", 0.04, True), ("tf32", 0.06, False),
    ("int8", 0.14, True), ("int8", 0.16, False),
])  # fmt: skip
def test_reduced_precision_is_judged_on_probabilities(
    logits: np.ndarray, precision: str, scale: float, passes: bool
) -> None:
    reference = softmax(logits)
    verdict = parity.compare(reference * (1 + scale), reference, "probabilities", precision)
    assert verdict.metric == "probabilities"
    assert verdict.rel_l2 == verdict.prob_rel_l2 == pytest.approx(scale)
    assert verdict.passed is passes


def nearly_tied() -> tuple[np.ndarray, np.ndarray]:
    """Image 0 changes its best class by a difference that no L2 tolerance sees."""
    reference = np.full((8, 10), 0.05)
    reference[:, 2] = 0.550
    reference[0, 2], reference[0, 3] = 0.301, 0.299
    output = reference.copy()
    output[0, 2], output[0, 3] = 0.299, 0.301
    return output, reference


@pytest.mark.parametrize(("precision", "passes"), [("fp16", False), ("int8", True)])
def test_a_changed_top_class(precision: str, passes: bool) -> None:
    output, reference = nearly_tied()
    verdict = parity.compare(output, reference, "probabilities", precision)
    assert verdict.top1 == 0.875
    assert verdict.passed is passes
    if not passes:
        assert verdict.reason == "top class agrees for 0.875 of the reference images, 1 is required"


def test_raw_outputs_are_judged_as_they_are(logits: np.ndarray) -> None:
    output = -logits
    assert not parity.compare(output, logits, "raw", "int8").passed
    verdict = parity.compare(logits * 1.0005, logits, "raw", "fp32")
    assert (verdict.metric, verdict.passed) == ("raw", True)
    assert not parity.compare(logits * 1.002, logits, "raw", "fp32").passed


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["probabilities", "raw"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_never_pass(logits: np.ndarray, precision: str, kind: str, bad: float) -> None:
    output = softmax(np.tile(logits, (3, 1)))
    output[20, 7] = bad
    verdict = parity.compare(output, softmax(logits), kind, precision)
    assert not verdict.passed
    assert verdict.columns["parity_rel_l2"] is None, "no CSV of ours holds NaN or infinity"
    words = "holds NaN" if np.isnan(bad) else "is infinite"
    assert verdict.reason.startswith(f"the output {words} in 1 of 2,400 values, where the reference")


@pytest.mark.parametrize(("got", "wanted", "words"), [
    ([[0.0, 3.5]], [[0.0, 0.0]], "is not 0 (at most 3.5), where the reference is 0 everywhere"),
    ([[1.0, 3.5]], [[1.0, np.nan]], "holds numbers in 1 of 2 values, where the reference is NaN or infinite"),
    ([[1.0, np.inf]], [[1.0, -np.inf]], "is infinite in 1 of 2 values, where the reference is not"),
    ([[1e200, 1.0]], [[1.0, 1.0]], "is so far from the reference that the distance is no number"),
])  # fmt: skip
def test_what_no_figure_can_say_is_said_in_words(got: list, wanted: list, words: str) -> None:
    verdict = parity.compare(np.array(got), np.array(wanted), "raw", "fp32")
    assert not verdict.passed
    assert verdict.reason == f"the output {words}"
    assert verdict.columns["parity_rel_l2"] is None


def test_a_reference_without_a_difference_between_classes_is_said_in_words() -> None:
    """Centred its logits are all 0: the distance from them is infinite, however near the output is."""
    verdict = parity.compare(np.array([[0.3, 0.7]]), np.array([[0.5, 0.5]]), "probabilities", "fp32")
    assert not verdict.passed
    assert verdict.reason == "the output tells the classes apart, where the logits of the reference are all equal"
    assert verdict.columns["parity_rel_l2"] is None
    same = parity.compare(np.array([[0.5, 0.5]]), np.array([[0.5, 0.5]]), "probabilities", "fp32")
    assert same.passed


def test_an_output_without_values_agrees() -> None:
    nothing = np.empty((3, 0))
    assert parity.compare(nothing, nothing, "raw", "fp32").passed


def test_one_wrong_row_in_a_large_batch_is_not_averaged_away(logits: np.ndarray) -> None:
    reference = softmax(logits)
    output = np.tile(reference, (64, 1))
    alone = output[:8].copy()
    output[509], alone[5] = output[510], output[510]
    for precision in PRECISIONS:
        large = parity.compare(output, reference, "probabilities", precision)
        small = parity.compare(alone, reference, "probabilities", precision)
        assert not large.passed
        assert (large.rel_l2, large.top1, large.top5) == (small.rel_l2, small.top1, small.top5)


def test_rows_beyond_a_whole_repetition_count_too(logits: np.ndarray) -> None:
    reference = softmax(logits)
    output = np.concatenate([reference, reference[:3]])
    assert parity.compare(output, reference, "probabilities", "fp32").passed
    output[9] = output[0]
    assert not parity.compare(output, reference, "probabilities", "fp32").passed


def test_zero_probabilities_have_a_floor() -> None:
    reference = np.array([[1.0, 0.0, 0.0]])
    assert parity.compare(reference.copy(), reference, "probabilities", "fp32").rel_l2 == 0.0


def test_an_output_of_another_shape_is_named(logits: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"output has shape \(8, 99\)"):
        parity.compare(softmax(logits)[:, :99], softmax(logits), "probabilities", "fp32")
    with pytest.raises(ValueError, match="rows >= 8"):
        parity.compare(softmax(logits)[:4], softmax(logits), "probabilities", "fp32")


def test_every_precision_has_a_tolerance() -> None:
    assert set(parity.TOLERANCES) == set(PRECISIONS)


def test_the_best_places_are_those_of_a_stable_sort() -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 6, (40, 23)).astype(np.float64)  # full of equals
    values[rng.random(values.shape) < 0.1] = np.nan
    values[1], values[2], values[3, :20] = np.nan, 0.0, np.nan
    values[4, 3], values[4, 7], values[5, :4] = np.inf, -np.inf, -np.inf
    for count in (1, 5, 23):
        expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
        assert np.array_equal(parity.best_places(values, count), expected)


def of_boxes(made: list[np.ndarray], *, scores: bool = False) -> Reference:
    """Of a detector: boxes as they are found, in every one of two units these; and beside them a score."""
    outputs = (Tensor("boxes", "float32", (-1, 4), None), *((Tensor("score", "float32", (1,)),) if scores else ()))
    model = ModelFiles(
        root=Path(), name="Boxes", hash="0", onnx="model.onnx", keras=None, saved_model=None, reference="", input_shape=(4,),
        layout="", onnx_input="x", onnx_output="boxes", output_kind="raw", classes=0, weights="user", weights_note="",
        inputs=(Tensor("x", "float32", (1, 4)),), outputs=outputs,
    )  # fmt: skip
    units = [{"boxes": one, "score": np.ones(1, np.float32)} for one in made]
    return Reference(model, [{"x": np.zeros((1, 4), np.float32)}] * len(made), units)


NO_BOX, ONE_BOX = np.empty((0, 4), np.float32), np.ones((1, 4), np.float32)


def test_where_all_outputs_are_empty_nothing_was_judged_and_the_row_says_so() -> None:
    """It passed with an error of 0, as if something had been compared."""
    reference = of_boxes([NO_BOX, NO_BOX])
    verdict = parity.compare_all([{"boxes": NO_BOX}] * 2, reference, 1, "fp32")
    assert verdict.passed
    assert not verdict.compared
    columns = verdict.columns
    assert (columns["parity_metric"], columns["parity_rel_l2"], columns["parity_prob_rel_l2"]) == ("empty", None, None)
    wrong = parity.compare_all([{"boxes": NO_BOX}, {"boxes": ONE_BOX}], reference, 1, "fp32")
    assert not wrong.passed
    assert wrong.reason == "output 'boxes' has the shape (1, 4), the reference (0, 4)"


def test_an_empty_output_has_no_part_in_the_error_of_the_others() -> None:
    reference = of_boxes([NO_BOX, NO_BOX], scores=True)
    made = [{"boxes": NO_BOX, "score": np.float32([score])} for score in (1, 1.0001)]
    verdict = parity.compare_all(made, reference, 1, "fp32")
    assert (verdict.passed, verdict.compared, verdict.output, list(verdict.by_output)) == (
        True,
        True,
        "score",
        ["score"],
    )
    assert verdict.rel_l2 == pytest.approx(1e-4 / 2**0.5, rel=1e-2)
    some = of_boxes([NO_BOX, ONE_BOX])
    assert parity.compare_all([{"boxes": NO_BOX}, {"boxes": ONE_BOX}], some, 1, "fp32").compared
    assert not parity.compare_all([{"boxes": NO_BOX}, {"boxes": 2 * ONE_BOX}], some, 1, "fp32").passed
