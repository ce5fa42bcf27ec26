"""Which cells of a run have which marks, for whoever measures them again."""

from __future__ import annotations

from pathlib import Path

from analysis.database.open_runs import open_runs


def marks_of(run: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """(mark -> its sign, cell key -> its marks) of a run folder, cells that failed left out: they have no figure to doubt."""
    with open_runs([run]) as database:
        signs = {row["mark"]: row["sign"] for row in database.query("FROM mark_meaning ORDER BY ALL")}
        rows = database.query(
            "SELECT cell_key, list(DISTINCT mark ORDER BY mark) AS marks FROM marks GROUP BY ALL ORDER BY ALL"
        )
        ok = {row["cell_key"] for row in database.query("SELECT cell_key FROM cells WHERE status = 'ok'")}
    return signs, {row["cell_key"]: row["marks"] for row in rows if row["cell_key"] in ok}
