from __future__ import annotations

from analysis.database import sql_readme


def test_the_page_is_what_schema_and_views_say() -> None:
    assert sql_readme.README.read_text() == sql_readme.text(), "run python -m analysis.database.sql_readme"
