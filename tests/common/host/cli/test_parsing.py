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


def test_what_rates_count_comes_with_its_number() -> None:
    assert opt.items("", -1) == ("", 1)
    assert opt.items("token", 128) == ("token", 128)
    assert opt.items("Wörter_2 x-y", 1) == ("Wörter_2 x-y", 1)
    assert opt.items("sequence", -1) == ("sequence", 1)
    assert opt.items("", 1) == ("", 1)


@pytest.mark.parametrize(
    ("item", "per_sample", "words"),
    [
        ("", 4, "--items-per-sample 4 needs a name of what is counted"),  # was 4 times as many sequences as there were
        ("token", -1, "--item token needs the number of them in a sample"),
        ("token", 0, "--items-per-sample must be at least 1, not 0"),
        ("token", 10**9 + 1, r"more than framewatt handles \(1,000,000,000\)"),
        ("a,b", 2, "'a,b' is no name of an item"),
        ('a"b', 2, "is no name of an item"),
        ("a\x1b[31mb", 2, r"'a\\x1b\[31mb' is no name of an item"),
        ("a\nb", 2, r"'a\\x0ab' is no name"),
        (" ", 2, "is no name of an item"),
        ("-x", 2, "is no name of an item"),
        ("x" * 31, 2, "at most 30 of them"),
        ("x" * 5000, 2, r"xxx\.\.\.' is no name"),
    ],
)
def test_items_that_cannot_be(item: str, per_sample: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        opt.items(item, per_sample)
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)
