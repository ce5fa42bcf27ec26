"""The README lists the frameworks that exist, as their labels describe them."""

from __future__ import annotations

import pytest

from common.errors import UserError
from common.host.frameworks.readme_table import README, updated
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES


def test_the_readme_is_what_the_labels_say() -> None:
    text = README.read_text()
    assert updated(text, load_images(IMAGES)) == text, "invoke compose writes it anew"


def test_lost_marks_are_said() -> None:
    with pytest.raises(UserError, match="has lost the marks"):
        updated("# framewatt\n", load_images(IMAGES))
