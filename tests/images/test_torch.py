"""The PyTorch image on the CPU; what it has in common with ONNX Runtime's, and the GPU, is in test_onnx_images.py."""

import pytest

from tests.images.workshop import check, cpu_workshop

FP32_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    return cpu_workshop("torch", tmp_path_factory.mktemp("torch"))


@pytest.mark.framework
def test_compiled_by_inductor_on_the_cpu(on_cpu):
    facts = on_cpu.exercise("torchcompile", on_cpu.make(17), batches=(8,))
    if "compiler" in (facts["refusal"] or ""):
        pytest.skip(facts["refusal"])
    check(facts, FP32_TOLERANCE)
    assert all(cell["device_ns"] is None for cell in facts["cells"]), "the CPU has no events of its own"
    assert facts["settings"]["intra_op_threads"] == "2"


@pytest.mark.framework
def test_an_operator_that_onnx2torch_lacks_is_unsupported(on_cpu):
    facts = on_cpu.exercise("torch", on_cpu.make(18))
    assert "Pad" in facts["unsupported"]
    assert "18" in facts["unsupported"]


@pytest.mark.framework
def test_constants_batch_norm_and_hard_swish_are_rewritten(on_cpu):
    settings = on_cpu.exercise("torch", on_cpu.make(17), ios=("host",), batches=(1,))["settings"]
    lifted, folded, fused = (int(part.split()[0]) for part in settings["model"].split(", "))
    assert lifted == 4
    assert folded == 2, "the Mul and the Add after the first convolution, and not the +3 of a hard-sigmoid"
    assert fused == 2


@pytest.mark.parametrize(
    ("capability", "targets", "expected"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((7, 0), ["sm_75", "sm_80", "sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90"], False),
        ((6, 1), [], False),
    ],
)
def test_kernels_run_within_a_major_version_and_ptx_on_anything_later(capability, targets, expected):
    from images.torch.adapter import covered

    assert covered(capability, targets) is expected
