"""Bad values name themselves, what exists, and the nearest name."""

from __future__ import annotations

import pytest

from common.errors import UserError
from common.host.cli import parsing as opt


def test_lists_keep_their_order_and_each_value_once() -> None:
    assert opt.batch_sizes("8, 1,8,32") == [8, 1, 32]
    assert opt.choose("io", "device,host,device", ["host", "device"]) == ["device", "host"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "batch size 0"),
        ("-4", "batch size -4"),
        ("eight", "'eight' is not a whole number"),
        ("1.5", "'1.5' is not a whole number"),
        (",", "no batch size given"),
        ("70000", "more than framewatt handles"),
    ],
)
def test_batch_sizes_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        opt.batch_sizes(text)


def test_unknown_name_lists_all_and_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown io 'devise'; there is host, device. Did you mean device\?"):
        opt.choose("io", "devise", ["host", "device"])


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_durations_must_be_positive_numbers(value: str) -> None:
    with pytest.raises(UserError, match="--min-seconds"):
        opt.positive("--min-seconds", value)


def test_whole_numbers_have_a_smallest() -> None:
    assert opt.whole("--replicates", "3") == 3
    with pytest.raises(UserError, match="--replicates must be at least 1, not 0"):
        opt.whole("--replicates", 0)
