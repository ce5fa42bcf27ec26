"""The TensorFlow image: its adapter for real on the CPU, its labels, and, on a GPU host, all of it on the GPU.

GPU host: docs/gpu-host.md; FRAMEWATT_PYTHON_TENSORFLOW names the interpreter.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.harness.adapter import DeviceOutOfMemory
from common.host.frameworks.registry import all_variants, load_images
from common.model_files import ModelFiles
from images.tensorflow import adapter, environment
from images.tensorflow.stock import Signature

REPOSITORY = Path(__file__).resolve().parents[2]
INTERPRETER = REPOSITORY / ".envs/tensorflow-cpu/bin/python"
DRIVER = Path(__file__).with_name("tensorflow_driver.py")
VARIANTS = ("tf", "tfxla", "keras", "kerasxla")
#: one image, and more than the reference has
BATCHES = (1, 12)
FP32_TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2

pytestmark = pytest.mark.timeout(1200)  # one process answers for all variants, on a machine that does other things too


def tensorflow_with_errors() -> Any:
    """As much of TensorFlow as tells one failure from another."""
    errors = SimpleNamespace(OpError=type("OpError", (Exception,), {}))
    errors.ResourceExhaustedError = type("ResourceExhaustedError", (errors.OpError,), {})
    return SimpleNamespace(errors=errors)


class Workshop:
    """Runs the driver, one process a call, with caches of its own."""

    def __init__(self, interpreter: Path, folder: Path, patience_s: int = 500) -> None:
        self.interpreter = interpreter
        self.folder = folder
        self.patience_s = patience_s
        self.cache = folder / "cache"
        self.model = folder / "Miniature-0123456789ab"
        #: the model that users measure
        self.exported: Path | None = None
        self._kept: dict = {}

    def ask(self, cache=None, **request):
        cache = cache or self.cache
        paths = [self.folder / f"{name}.json" for name in ("request", "answer")]
        paths[1].unlink(missing_ok=True)
        request.update(repository=str(REPOSITORY), answer=str(paths[1]), cache_dir=str(cache))
        paths[0].write_text(json.dumps(request))
        variables = {**os.environ, "FRAMEWATT_CACHE_DIR": str(cache), "HOME": str(self.folder)}
        done = subprocess.run(
            [str(self.interpreter), str(DRIVER), str(paths[0])],
            capture_output=True, text=True, env=variables, cwd=REPOSITORY, timeout=self.patience_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(paths[1].read_text())

    def exercise(self, variant, device="cpu", precision="fp32", ios=("host", "device"), batches=(1, 8, 12), **more):
        """Facts of one variant, from one process however many tests ask."""
        key = repr((variant, device, precision, ios, batches, more))
        if key not in self._kept:
            self._kept[key] = self.ask(
                action="exercise", variant=variant, device=device, precision=precision, ios=ios, batches=batches,
                model=str(self.model), **more,
            )  # fmt: skip
        return self._kept[key]

    def several(self, requests: list[dict], **more) -> list[dict]:
        """The answers of one process."""
        return self.ask(
            action="several",
            requests=requests,
            device="cpu",
            precision="fp32",
            threads=2,
            model=str(self.model),
            **more,
        )


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory, small_keras: Path, exported_model: ModelFiles) -> Workshop:
    made = Workshop(INTERPRETER, tmp_path_factory.mktemp("tensorflow"), patience_s=1100)
    made.model, made.exported = small_keras, exported_model.root
    return made


#: what `stock` runs, and `tuned` where it was faster in the trial
SIGNATURE = {"variant": "tfxla", "level": "stock"}


@pytest.fixture(scope="module")
def facts(on_cpu: Workshop) -> dict[str, dict]:
    """Everything that the tests ask of the variants, from one process: importing TensorFlow takes longest."""
    every = [
        {"variant": variant, "ios": ["host", "device"], "batches": BATCHES, "stock": True, "half": variant in ("tf", "keras"),
         "exhaust": variant == "tf", "tftrt": variant == "tf", "exported": str(on_cpu.exported)}
        for variant in VARIANTS
    ]  # fmt: skip
    every.append({**SIGNATURE, "ios": ["host"], "batches": [1, 8]})
    return dict(zip([*VARIANTS, "signature"], on_cpu.several(every), strict=True))


@pytest.mark.framework
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_agree_with_float64(facts, variant):
    cells = facts[variant]["cells"]
    assert [(c["batch_size"], c["io"]) for c in cells] == [(b, io) for b in BATCHES for io in ("host", "device")]
    for cell in cells:
        assert cell["shape"] == [cell["batch_size"], 10]
        assert cell["dtype"] == "float32"
        assert cell["rel_l2"] < FP32_TOLERANCE, cell
        assert cell["queued_rel_l2"] < FP32_TOLERANCE, cell
        assert cell["written_rel_l2"] < FP32_TOLERANCE, cell


@pytest.mark.framework
@pytest.mark.parametrize("variant", VARIANTS)
def test_second_prepare_replaces_the_input_and_traces_nothing(facts, variant):
    for cell in facts[variant]["cells"]:
        assert cell["swapped_rel_l2"] < FP32_TOLERANCE, cell
        before, after = cell["traces"]
        assert before == after, cell
        # keras may have chosen its own function, which is traced once, before calls of the model
        assert before in ((0, 1) if variant == "keras" else (1,)), cell


@pytest.mark.framework
@pytest.mark.parametrize("variant", VARIANTS)
def test_cpu_runs_fp32_alone_and_says_so(facts, variant):
    reported = facts[variant]
    assert reported["supports"]["fp32 cpu"] is None
    assert (
        reported["supports"]["fp16 cpu"] == reported["fp16_load"] == f"{variant} runs in fp32 on the CPU, not in fp16"
    )
    assert "finds no GPU" in reported["supports"]["fp32 gpu0"]
    assert "not in int8" in reported["supports"]["int8 gpu0"]


@pytest.mark.framework
@pytest.mark.parametrize("variant", VARIANTS)
def test_row_says_what_ran(facts, variant):
    reported = facts[variant]
    own = "keras" if variant.startswith("keras") else "tensorflow"
    assert reported["versions"]["framework"] == reported["versions"][own]
    cell = reported["cells"][-1]
    assert cell["settings"]["intra_op_threads"] == "2"
    assert cell["settings"]["xla"] == ("jit_compile=True" if "xla" in variant else "off")
    assert cell["settings"].get("xla_persistent_cache") == ("on" if "xla" in variant else None)
    assert all(isinstance(value, str) for value in cell["settings"].values())
    assert cell["device_peak_bytes"] is None
    assert cell["run_timed"] is None


@pytest.mark.framework
def test_an_input_is_copied_to_the_device_and_a_copy_that_fails_is_caught(on_cpu):
    reported = on_cpu.ask(action="copies")
    assert reported["from"].endswith("CPU:0")
    assert reported["to"].endswith("CPU:1")
    assert reported["same"]
    assert reported["settings"]["input_copy"] == "each inference", "analysis/sql/40_cells.sql tells earlier rows by it"
    assert "unknown device" in reported["failed"]


def test_no_room_for_the_input_is_out_of_memory():
    made = adapter.TensorFlowAdapter("tf", tensorflow_with_errors(), None)
    with pytest.raises(DeviceOutOfMemory, match="Dst tensor is not initialized"):
        made._raise_out_of_memory(RuntimeError("Dst tensor is not initialized."))
    made._raise_out_of_memory(RuntimeError("/GPU:7 unknown device."))


@pytest.mark.framework
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_lowest_level_runs_agrees_too(facts, variant):
    assert facts[variant]["stock_rel_l2"] < FP32_TOLERANCE


@pytest.mark.framework
def test_half_precision_is_half_and_close(facts):
    for variant in ("tf", "keras"):
        half = facts[variant]["half"]
        assert half["dtype"] == "float32"
        # rounding to 11 bits shows: an error of float32's size would mean that nothing was cast
        assert 1e-5 < half["rel_l2"] < HALF_TOLERANCE, (variant, half)


@pytest.mark.framework
def test_exhausted_memory_is_named(facts):
    assert facts["tf"]["exhausted"] == "OOM when allocating tensor"


@pytest.mark.framework
def test_tftrt_says_that_this_tensorflow_has_none(facts):
    reported = facts["tf"]["tftrt"]
    assert "TF-TRT ended with TensorFlow 2.17" in reported["load"]
    assert reported["gpu0"] == reported["cpu"] == reported["load"]


@pytest.mark.framework
@pytest.mark.parametrize("variant", VARIANTS)
def test_exported_model_agrees(facts, variant):
    assert facts[variant]["exported_rel_l2"] < FP32_TOLERANCE


def compiled_files(cache):
    (folder,) = (cache / "tensorflow/xla").iterdir()
    return {path: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.framework
def test_compiled_code_is_found_again_in_any_order(on_cpu, facts):
    assert all(cell["rel_l2"] < FP32_TOLERANCE for cell in facts["signature"]["cells"])
    before = compiled_files(on_cpu.cache)
    assert before
    again = on_cpu.several(
        [
            # the exported model too: its graph was frozen by the first process and is read from a file by this one
            {"variant": "tfxla", "ios": ["device"], "batches": [12, 1], "exported": str(on_cpu.exported)},
            {"variant": "kerasxla", "ios": ["device"], "batches": [12, 1]},
            {**SIGNATURE, "ios": ["device", "host"], "batches": [8, 1]},
        ]
    )
    assert compiled_files(on_cpu.cache) == before
    assert all(cell["rel_l2"] < FP32_TOLERANCE for answer in again for cell in answer["cells"])
    assert all(
        "serving_default" in cell["settings"]["graph"] for cell in facts["signature"]["cells"] + again[-1]["cells"]
    )


@pytest.mark.framework
def test_torn_compiled_file_costs_a_compile_not_the_cell(on_cpu, facts, tmp_path):
    shutil.copytree(on_cpu.cache, tmp_path / "cache")
    for path in compiled_files(tmp_path / "cache"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = on_cpu.exercise("tfxla", ios=["host"], batches=[12], threads=2, cache=str(tmp_path / "cache"))
    assert again["cells"][0]["rel_l2"] < FP32_TOLERANCE


# -- without a framework


def test_labels_promise_what_the_adapter_runs():
    text = (REPOSITORY / "images/tensorflow/Dockerfile").read_text()
    promised = dict(re.findall(r'^LABEL framewatt\.variant\.(\S+?)="(.*)"$', text, re.M))
    assert {name.split(".")[0] for name in promised} == set(adapter.VARIANTS)
    for variant in adapter.VARIANTS:
        assert tuple(promised[f"{variant}.precisions.gpu"].split()) == adapter._GPU_PRECISIONS[variant]
        assert promised.get(f"{variant}.precisions.cpu") == (None if variant == "tftrt" else "fp32")


def test_the_reason_why_stock_has_no_half_precision_stands_in_one_place():
    """It stood in a label of either variant and in the adapter."""
    variants = all_variants(load_images(REPOSITORY / "images"))
    (reason,) = {variants[name].without["fp16", "stock"] for name in ("tf", "tfxla")}
    assert reason.endswith("fp16 takes --tuning tuned")
    sources = [path for room in ("common", "images") for path in (REPOSITORY / room).rglob("*") if path.is_file()]
    assert sum(path.read_bytes().count(reason.encode()) for path in sources if path.suffix != ".pyc") == 1


def test_a_signature_is_not_measured_under_the_name_of_another_precision():
    with pytest.raises(AssertionError, match="float32"):
        Signature(None, False).load(None, "fp16")


def test_create_refuses_a_variant_that_it_does_not_have():
    with pytest.raises(ValueError, match="tfx; there is tf, tfxla"):
        adapter.create("tfx")


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("XLA_FLAGS", "TF_XLA_FLAGS", "KERAS_HOME", "CUDA_CACHE_PATH", "KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"):
        # set before deleting, so that what configure() writes is undone as well
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_users_flags_stay_and_ours_join_them(clean_environment, tmp_path):
    clean_environment.setattr(environment, "installed_version", lambda: "2.21.0")
    clean_environment.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=1 --xla_dump_to=x")
    caches = environment.configure(str(tmp_path))
    assert os.environ["XLA_FLAGS"].startswith("--xla_gpu_autotune_level=1 --xla_dump_to=x ")
    assert os.environ["XLA_FLAGS"].count("autotune_level") == 1
    assert environment.flag_value("XLA_FLAGS", "xla_gpu_per_fusion_autotune_cache_dir") == str(caches.autotune)
    assert environment.flag_value("TF_XLA_FLAGS", "tf_xla_persistent_cache_directory") == str(caches.xla)
    # XLA does not make the folder itself
    assert caches.autotune.is_dir()


def test_old_tensorflow_gets_no_flag_that_would_end_it(clean_environment, tmp_path):
    clean_environment.setattr(environment, "installed_version", lambda: "2.4.0+nv")
    environment.configure(str(tmp_path))
    assert not os.environ.get("XLA_FLAGS")
    assert not os.environ.get("TF_XLA_FLAGS")


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ("", "cudnn-fused-convolution-rewriter"),
        ("--xla_dump_to=x --xla_disable_hlo_passes=one,two", "one,two,cudnn-fused-convolution-rewriter"),
        ("--xla_disable_hlo_passes=cudnn-fused-convolution-rewriter", "cudnn-fused-convolution-rewriter"),
    ],
)
def test_fused_convolutions_are_left_out_beside_what_the_user_leaves_out(clean_environment, given, passes):
    clean_environment.setattr(environment, "installed_version", lambda: "2.21.0")
    clean_environment.setenv("XLA_FLAGS", given)
    assert environment.without_fused_convolutions()
    assert environment.flag_value("XLA_FLAGS", "xla_disable_hlo_passes") == passes
    assert os.environ["XLA_FLAGS"].count("xla_disable_hlo_passes") == 1
    assert ("--xla_dump_to=x" in os.environ["XLA_FLAGS"]) == ("dump" in given)


def test_older_xla_keeps_its_fused_convolutions(clean_environment):
    clean_environment.setattr(environment, "installed_version", lambda: "2.17.0")
    assert not environment.without_fused_convolutions()
    assert not os.environ.get("XLA_FLAGS")


@pytest.mark.parametrize(
    ("variant", "apart"),
    [
        ("tfxla", {"fp32", "tf32", "fp16"}),
        ("kerasxla", {"fp32", "tf32"}),
        ("tf", set()),
        ("keras", set()),
        ("tftrt", set()),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_convolution_and_bias_stay_apart_where_joining_them_fails_or_takes_minutes(
    clean_environment: pytest.MonkeyPatch, variant: str, apart: set[str], precision: str
) -> None:
    clean_environment.setattr(environment, "installed_version", lambda: "2.21.0")
    clean_environment.setattr(
        adapter.importlib, "import_module", lambda _name: SimpleNamespace(context=SimpleNamespace)
    )
    made = adapter.TensorFlowAdapter(variant, tensorflow_with_a_gpu(), None)
    made._precision = precision
    made._use_gpu(0)
    assert (environment.flag_value("XLA_FLAGS", "xla_disable_hlo_passes") is not None) == (precision in apart)
    assert made._fused_convolutions == (precision not in apart)


def tensorflow_with_a_gpu() -> Any:
    """As much of TensorFlow as chooses a GPU."""

    def nothing(*_given: object) -> None:
        return None

    experimental = SimpleNamespace(set_memory_growth=nothing, enable_tensor_float_32_execution=nothing)
    tf = tensorflow_with_errors()
    tf.config = SimpleNamespace(
        list_physical_devices=lambda _kind: ["gpu"], set_visible_devices=nothing, experimental=experimental
    )
    tf.compat = SimpleNamespace(v1=SimpleNamespace(GPUOptions=dict, ConfigProto=dict))
    return tf


@pytest.mark.framework
@pytest.mark.skipif(not INTERPRETER.exists(), reason="no .envs/tensorflow-cpu: ./invoke test makes it")
def test_xla_still_reads_flags_that_are_set_after_the_import():
    # the adapter knows the precision, and so one of its flags, only after the import
    code = """
import os
import tensorflow as tf
print("imported", flush=True)
os.environ["XLA_FLAGS"] = "--xla_no_such_flag=1"
print(tf.function(lambda x: x + 1, jit_compile=True)(tf.constant([1.0])))
"""
    done = subprocess.run([str(INTERPRETER), "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "imported\n"
    assert done.returncode != 0
    assert "xla_no_such_flag" in done.stderr


def test_versions_have_caches_of_their_own(monkeypatch, tmp_path):
    folders = set()
    for version in ("2.17.0", "2.21.0"):
        monkeypatch.setattr(environment, "installed_version", lambda version=version: version)
        folders.add(environment.locate_caches(str(tmp_path)).xla)
    assert len(folders) == 2


# -- on a GPU


@pytest.fixture(scope="module")
def on_gpu(gpu_python: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    # XLA takes minutes for a shape where it tries every way to compute a convolution with its bias
    made = Workshop(gpu_python("tensorflow", "tensorflow"), tmp_path_factory.mktemp("tensorflow-gpu"), patience_s=1200)
    # a network that gives every picture the same answer would pass any comparison
    assert made.ask(action="export", root=str(made.model))["spread"] > 0.01
    return made


@pytest.mark.gpu
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gpu_outputs_and_settings(on_gpu, variant, precision):
    facts = on_gpu.exercise(variant, device="cuda:0", precision=precision)
    tolerance = FP32_TOLERANCE if precision == "fp32" else HALF_TOLERANCE
    for cell in facts["cells"]:
        # written: an input that TensorFlow copied once and took again would have the output of the one before
        assert max(cell[f"{which}rel_l2"] for which in ("", "swapped_", "queued_", "written_")) < tolerance, cell
        assert cell["traces"][0] == cell["traces"][1]
        assert cell["device_peak_bytes"] > 0
        assert cell["settings"]["tf32"] == str(precision == "tf32").lower()
        assert cell["settings"].get("input_copy") == ("each inference" if cell["settings"]["io"] == "host" else None)
        if variant in ("tfxla", "kerasxla"):
            # of TensorFlow 2.21 on; older ones keep them in every precision
            assert (cell["settings"]["xla_fused_convolutions"] == "on") == (
                (variant, precision) == ("kerasxla", "fp16")
                or environment.release(facts["versions"]["tensorflow"]) < (2, 21)
            )
        if cell["io"] == "host":
            assert cell["settings"]["host_memory"].startswith("page-locked")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gpu_tftrt_runs_or_says_why_not(on_gpu, precision):
    facts = on_gpu.exercise("tftrt", device="cuda:0", precision=precision)
    if "load" in facts:
        assert "TF-TRT ended" in facts["load"] or "without TensorRT" in facts["load"]
        return
    tolerance = FP32_TOLERANCE if precision == "fp32" else HALF_TOLERANCE
    assert all(cell["rel_l2"] < tolerance for cell in facts["cells"])
