"""A plan file says what the command line would, and complains with line and key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.host.plan import plan_file
from common.host.plan.options import Options
from common.host.plan.plan_file import PlanFile, options_given, render


def plan_of(tmp_path: Path, text: str) -> PlanFile:
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    return plan_file.read(file)


def test_the_top_holds_for_all_sweeps_and_each_model_has_its_run(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
batch_sizes = [1, 8]
quick = true
[settings]
min_samples = 5
[[sweep]]
model = ["MobileNetV3L", "ResNet50"]
framework = ["onnxrt", "torch"]
[[sweep]]
framework = "tf"
batch_sizes = "32"
rate = 12.5
scenario = ["server"]
settings.trace_runs = 3
""",
    )
    assert (plan.name, len(plan.hash)) == ("sweep", 12)
    both = {"batch_sizes": "1,8", "quick": True, "framework": "onnxrt,torch"}
    assert [one.options for one in plan.sweeps] == [
        Options(**both, model="MobileNetV3L", settings={"min_samples": 5}),
        Options(**both, model="ResNet50", settings={"min_samples": 5}),
        Options(
            framework="tf", batch_sizes="32", quick=True, rate="12.5", scenario="server",
            settings={"min_samples": 5, "trace_runs": 3},
        ),
    ]  # fmt: skip
    assert plan.sweeps[2].lines["batch_sizes"] == 11


def test_a_run_for_each_value_of_what_is_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 'framework = ["a", "b"]\nmodel = ["x", "y"]\nrun_for_each = ["framework"]\n')
    assert [(one.options.model, one.options.framework) for one in plan.sweeps] == [
        ("x", "a"), ("x", "b"), ("y", "a"), ("y", "b"),
    ]  # fmt: skip


def test_a_file_beside_the_plan_is_meant_before_one_where_the_command_is_typed(tmp_path: Path) -> None:
    (tmp_path / "my.onnx").touch()
    plan = plan_of(tmp_path, 'model = ["my.onnx", "other.onnx"]\n')
    assert [one.options.model for one in plan.sweeps] == [str(tmp_path / "my.onnx"), "other.onnx"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = [1,\n", r"sweep.toml is no TOML: .*line 1"),
        ("quick = true\nframwork = 'x'\n", r"sweep.toml line 2, framwork: unknown key .* Did you mean framework\?"),
        ("[[sweep]]\nbatch-sizes = [1]\n", r"line 2, sweep.batch-sizes: unknown key .* Did you mean batch_sizes\?"),
        ("\nquick = 'yes'\n", "line 2, quick: 'yes' is not true or false"),
        ("quick = 1\n", "line 1, quick: '1' is not true or false"),
        ("replicates = 2.5\n", "line 1, replicates: '2.5' is not a whole number"),
        ("replicates = true\n", "line 1, replicates: True is not a whole number"),
        ("framework = true\n", "line 1, framework: True is not text"),
        ("min_seconds = 'long'\n", "line 1, min_seconds: 'long' is not a number"),
        ("min_seconds = inf\n", "line 1, min_seconds: inf is not a number"),
        ("device = ['cpu', 'gpu']\n", "line 1, device: .* is a list, and there can be one value alone"),
        ("framework = []\n", "line 1, framework: the list is empty"),
        ("framework = [\n'a',\n['b']]\n", r"line 1, framework: \['b'\] is not text"),
        ("framework = {a = 1}\n", r"line 1, framework: \{'a': 1\} is not text"),
        ("item = 1979-05-27\n", "line 1, item: .* is not text"),
        ("name = 3\n", "line 1, name: 3 is no text"),
        ("[settings]\n\nmin_sample = 3\n", r"line 3, settings.min_sample: unknown setting .* Did you mean min_samples\?"),
        ("[settings]\nmin_seconds = 3\n", "line 2, settings.min_seconds: the option min_seconds says this"),
        ("[settings]\nmin_samples = 3.5\n", "line 2, settings.min_samples: 3.5 is not a whole number from 0"),
        ("[[sweep]]\n[[sweep]]\nsettings.min_samples = -1\n", "line 3, sweep.settings.min_samples: -1 is not"),
        ("settings = 3\n", "line 1, settings: settings are a table"),
        ("[sweep]\nframework = 'a'\n", "line 1, sweep: a sweep's heading is"),
        ("run_for_each = ['device']\n", "line 1, run_for_each: unknown option 'device'"),
        ("run_for_each = ['framework']\n", "line 1, run_for_each: framework is not given"),
        ("run_for_each = 'framework'\n", "line 1, run_for_each: 'framework' is no list of options"),
    ],
)  # fmt: skip
def test_complaints_name_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_of(tmp_path, text)


def test_options_beside_it_win(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, "precision = 'fp16'\nbatch_sizes = 1\n[[sweep]]\nframework = 'a'\n[[sweep]]\nframework = 'b'\n"
    )
    assert plan.values_of("framework") == ["a", "b"]
    assert plan.values_of("io") == []
    changed = plan.beside({"precision": "fp32", "framework": "c"})
    assert [one.options for one in changed.sweeps] == [Options(batch_sizes="1", framework="c")]
    assert changed.digest != plan.digest
    assert changed.hash == plan.hash


def test_the_digest_is_of_what_is_asked_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "framework = ['a', 'b']\n")
    same = plan_of(tmp_path, "# a comment\nframework = 'a, b'\n")
    assert same.digest == plan.digest
    assert same.hash != plan.hash


def test_plans_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert plan_file.find("demo") == plan_file.PLANS / "demo.toml"
    with pytest.raises(UserError, match=r"unknown plan 'dem'; there is .*demo.*Did you mean demo\?"):
        plan_file.find("dem")
    with pytest.raises(UserError, match=r"sweep.toml does not exist"):
        plan_file.find(str(tmp_path / "sweep.toml"))


words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0,"), min_size=1).filter(
    lambda text: text == text.strip()
)


@given(
    st.lists(words, min_size=1),
    st.lists(st.integers(1, 65536), min_size=1),
    st.floats(0.001, 1e6),
    words,
    st.booleans(),
    st.text(st.characters(blacklist_categories=[])),
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    frameworks: list[str],
    sizes: list[int],
    rate: float,
    item: str,
    quick: bool,
    head: str,
) -> None:
    options = Options(
        framework=",".join(frameworks), batch_sizes=",".join(map(str, sizes)), rate=str(rate), item=item, quick=quick,
        min_seconds=rate, seed=3, shape="x=N,3,320,320", image=item, settings={"min_samples": 5, "precision_of_median": rate},
    )  # fmt: skip
    file = tmp_path_factory.mktemp("plan") / "sweep.toml"
    file.write_text(render(options, [head]), encoding="utf-8")
    (sweep,) = plan_file.read(file).sweeps
    again = sweep.options
    assert replace(again, rate=str(float(again.rate))) == options, "a rate is the same number, 1 where 1.0 was typed"


def test_a_name_that_is_no_text_has_no_plan() -> None:
    with pytest.raises(UserError, match=r"^a\\xff\.jpg holds bytes that are no text in UTF-8"):
        render(Options(image="a\udcff.jpg"))


def test_settings_of_a_caller_in_python_become_options(tmp_path: Path) -> None:
    options = Options(framework="a", settings={"min_seconds": 0.25, "trace_runs": 20, "min_images": 1})
    (sweep,) = plan_of(tmp_path, render(options)).sweeps
    assert sweep.options == replace(options, min_seconds=0.25, images=1, settings={"trace_runs": 20})
    assert options_given(sweep.options)["settings"] == {"trace_runs": 20}
