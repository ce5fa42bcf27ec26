"""The README and docs/frameworks.md name the frameworks that exist, as their labels describe them."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from common.host.frameworks.generated_pages import PAGES, README, TABLE, updated
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_what_the_labels_say(page: Path) -> None:
    text = page.read_text()
    assert updated(page, text, load_images(IMAGES)) == text, "invoke compose writes it anew"


def test_every_variant_is_named_on_both_pages() -> None:
    readme, table = README.read_text(), TABLE.read_text()
    for image in load_images(IMAGES):
        for variant in image.variants:
            assert f"{variant.title} (`{variant.name}`)" in readme
            assert f"| `{variant.name}` | **{variant.title}**" in table


def test_lost_marks_are_said() -> None:
    with pytest.raises(UserError, match=r"README.md has lost the marks"):
        updated(README, "# framewatt\n", load_images(IMAGES))
