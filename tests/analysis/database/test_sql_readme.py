from __future__ import annotations

import re

import pytest

from analysis.database import sql_readme
from common import schema

FILE_OF = {
    "cells": "cell.csv", "results": "cell.csv", "comparison": "cell.csv", "samples": "samples.csv", "device_times": "device_times.csv",
    "power": "power.csv", "attempts": "attempts.csv",
}  # fmt: skip


def test_the_page_is_what_schema_and_views_say() -> None:
    assert sql_readme.README.read_text() == sql_readme.text(), "run python -m analysis.database.sql_readme"


def test_every_meaning_is_that_of_the_views_own_file() -> None:
    view, seen = "", 0
    for line in sql_readme.text().splitlines():
        if line.startswith("## "):
            view = line[3:]
        cells = [cell.strip() for cell in line.split("|")]
        if view not in sql_readme.SHOWN or len(cells) != 5 or not (name := re.fullmatch("`(.+)`", cells[1])):
            continue
        own = {
            c.name: c.meaning.replace("|", "/")
            for c in (*schema.CELL[:1], *schema.FILES.get(FILE_OF.get(view, ""), ()))
        }
        derived = {"known_wrong": "why the figures", "below_run": "run that the lower level is of"}.get(name[1])
        assert cells[3].startswith(derived) if derived else cells[3] == own.get(name[1], ""), f"{view}.{name[1]}"
        seen += 1
    assert seen > 200


@pytest.mark.parametrize(
    ("view", "column", "words"),
    [
        ("comparison", "device", "as the host numbers it"),
        ("results", "status", "parity_failed"),
        ("energy", "energy_mj", ""),
    ],
)
def test_a_name_that_several_files_have(view: str, column: str, words: str) -> None:
    assert words in sql_readme.meaning(view, column)
    assert bool(words) == bool(sql_readme.meaning(view, column))
