"""One measurement at a time, and no option that it does not read."""

from __future__ import annotations

import pytest

from common.errors import UserError
from common.host.selfbench.modes import mode_of


@pytest.mark.parametrize(
    ("typed", "mode"),
    [((), ""), (("statistics",), ""), (("debug", "fleet"), "fleet"), (("gpu", "order", "rounds"), "order"), (("gpu", "python"), "gpu"),
     (("notebook", "framework"), "notebook")],
)  # fmt: skip
def test_what_was_typed_says_what_is_measured(typed: tuple[str, ...], mode: str) -> None:
    assert mode_of(typed) == mode


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("order", "docker"), "--order and --docker are two measurements; give one of them"),
        (("docker", "gpu"), "--docker and --gpu are two measurements"),
        (("rounds",), "selfbench alone does not read --rounds; --order does"),
        (("gpu", "threads"), "selfbench --gpu does not read --threads; --order does"),
        (("docker", "batch_sizes"), "selfbench --docker does not read --batch-sizes; --order does"),
        (("docker", "framework"), "selfbench --docker does not read --framework; --order and --notebook and --gpu do"),
        (("order", "statistics"), "selfbench --order does not read --statistics; selfbench alone does"),
    ],
)
def test_two_measurements_and_idle_options_are_refused(typed: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        mode_of(typed)
