"""Which engine serves which batch size, and what the environment may say."""

from __future__ import annotations

import pytest

from common.harness.adapter import Unsupported
from common.model_files import Tensor
from images.tensorrt.profile import Options, Profile, choose_profile, shapes_of, tactic_mask, workspace_limit

TACTICS = {"CUBLAS": 0, "EDGE_MASK_CONVOLUTIONS": 3, "JIT_CONVOLUTIONS": 4}


def test_one_engine_for_the_whole_run_is_tuned_for_the_largest_batch_size() -> None:
    options = Options.read({"FRAMEWATT_BATCH_SIZES": "512, 8,1,8"})
    assert {choose_profile(size, options) for size in (1, 8, 512)} == {Profile(1, 512, 512)}


def test_a_batch_size_that_the_host_did_not_announce_gets_its_own_engine() -> None:
    assert choose_profile(64, Options.read({"FRAMEWATT_BATCH_SIZES": "1,8"})) == Profile(64, 64, 64)
    assert choose_profile(64, Options.read({})) == Profile(64, 64, 64)


def test_each_batch_size_its_own_engine() -> None:
    options = Options.read({"FRAMEWATT_BATCH_SIZES": "1,8", "FRAMEWATT_TRT_PROFILES": "each"})
    assert choose_profile(8, options) == Profile(8, 8, 8)


def test_bands() -> None:
    options = Options.read({"FRAMEWATT_TRT_PROFILES": "1-16@8, 17-512"})
    assert choose_profile(16, options) == Profile(1, 8, 16)
    assert choose_profile(17, options) == Profile(17, 512, 512)
    assert choose_profile(600, options) == Profile(600, 600, 600)


def test_a_single_size_is_a_band() -> None:
    for text in ("1-32@32,512", "1-32,512@512", "1-32 , 512-512@512"):
        options = Options.read({"FRAMEWATT_TRT_PROFILES": text})
        assert choose_profile(512, options) == Profile(512, 512, 512)
        assert choose_profile(8, options) == Profile(1, 32, 32)


@pytest.mark.parametrize("text", ["every", "8@9", "8@", "-8", "0", "0-4", "8-4", "1-8@9", "1-8@x", "1-8,"])
def test_bands_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Unsupported, match=r"^FRAMEWATT_TRT_PROFILES has '"):
        Options.read({"FRAMEWATT_TRT_PROFILES": text})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRAMEWATT_BATCH_SIZES", "1,zero"),
        ("FRAMEWATT_BATCH_SIZES", "0"),
        ("FRAMEWATT_TRT_BUILDER_LEVEL", "6"),
        ("FRAMEWATT_TRT_BUILDER_LEVEL", "high"),
        ("FRAMEWATT_TRT_WORKSPACE_MIB", "-1"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(Unsupported, match=name):
        Options.read({name: value})


def test_profiles_read_as_their_range() -> None:
    assert str(Profile(1, 512, 512)) == "b1-512@512"
    assert str(Profile(8, 8, 8)) == "b8"


def test_tactic_sources_become_a_bit_mask() -> None:
    options = Options.read({"FRAMEWATT_TRT_TACTIC_SOURCES": "EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS"})
    assert tactic_mask(options.tactic_sources, TACTICS) == 0b11000


def test_without_tactic_sources_the_choice_is_left_to_tensorrt() -> None:
    assert tactic_mask((), TACTICS) is None


def test_an_unknown_tactic_source_lists_the_ones_there_are() -> None:
    with pytest.raises(Unsupported, match=r"CUDNN.*CUBLAS, EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS"):
        tactic_mask(["CUDNN"], TACTICS)


def test_workspace_is_half_the_device_up_to_16_gib() -> None:
    assert workspace_limit(Options(), 8 << 30) == 4 << 30
    assert workspace_limit(Options(), 80 << 30) == 16 << 30
    assert workspace_limit(Options.read({"FRAMEWATT_TRT_WORKSPACE_MIB": "512"}), 80 << 30) == 512 << 20


MANY = Profile(1, 8, 32)


@pytest.mark.parametrize(
    ("shape", "tensor", "expected"),
    [
        ((-1, 3, 8, 8), None, [(1, 3, 8, 8), (8, 3, 8, 8), (32, 3, 8, 8)]),
        # all that the description knows has no range: an engine for a wide one is slower
        ((-1, -1), Tensor("ids", "int64", (1, 128)), [(1, 128), (8, 128), (32, 128)]),
        ((-1, 3, -1, -1), Tensor("x", "float32", (1, 3, 48, 320)), [(n, 3, 48, 320) for n in (1, 8, 32)]),
        # a state's batch is in the middle
        ((2, -1, 128), Tensor("state", "float32", (2, 1, 128), 1), [(2, n, 128) for n in (1, 8, 32)]),
        # fed once, whatever the batch; a scalar too
        ((-1, 4), Tensor("table", "float32", (9, 4), None), [(9, 4)] * 3),
        ((), Tensor("rate", "int64", (), None), [()] * 3),
    ],
)
def test_every_input_has_a_range_in_its_batch_alone(
    shape: tuple[int, ...], tensor: Tensor | None, expected: list[tuple[int, ...]]
) -> None:
    assert shapes_of(shape, MANY, tensor) == expected


def test_inputs_that_no_range_can_be_given_to() -> None:
    with pytest.raises(Unsupported, match="dynamic beyond the batch axis"):
        shapes_of((-1, -1), MANY)
    with pytest.raises(Unsupported, match="dynamic beyond the batch axis"):
        shapes_of((-1, -1), MANY, Tensor("boxes", "float32", (1, -1)))
    with pytest.raises(Unsupported, match="fixed at 4"):
        shapes_of((4, 3), MANY, Tensor("x", "float32", (4, 3)))
    assert shapes_of((4, 3), Profile(4, 4, 4), Tensor("x", "float32", (4, 3))) == [(4, 3)] * 3


def test_an_input_with_fewer_axes_in_the_network_than_in_the_description() -> None:
    assert shapes_of((), MANY) == [()] * 3, "a scalar that the description does not name has no batch"
    for shape, axis in (((), 0), ((-1,), 1)):
        with pytest.raises(Unsupported, match=f"has no axis {axis}, which should be the batch"):
            shapes_of(shape, MANY, Tensor("x", "float32", (1, 1), axis))
