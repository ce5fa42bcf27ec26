"""`invoke clean`: removes what interrupted runs left behind, and on request what framewatt made."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host.fleet.worker.scratch import leftovers as fleet_leftovers
from common.host.paths import ENVIRONMENTS, DataFolder


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def leftovers(data: DataFolder) -> list[Path]:
    """Temporary folders and files that a killed run or export did not come to remove."""
    patterns = ("results/*/unfinished/*", "results/*/.run.json.*", "models/.tmp-*", "results/.probe-*")
    return sorted([*(path for pattern in patterns for path in data.root.glob(pattern)), *fleet_leftovers(data)])


def clean(
    data: DataFolder,
    console: Console,
    *,
    models: bool,
    results: bool,
    cache: bool,
    environments: bool,
    yes: bool,
    images: bool = False,
) -> None:
    """Removes leftovers always, the rest as named. Raises UserError when results would go and nobody can be asked."""
    _clean_engine(console, images=images)
    doomed = leftovers(data)
    if models:
        doomed.append(data.models)
    if cache:
        doomed.append(data.cache)
    if environments:
        doomed.append(ENVIRONMENTS)
    if results:
        runs = len(list(data.results.glob("*/run.json")))
        if not yes:
            if not console.is_terminal:
                raise UserError(f"--results would remove {runs} runs; add --yes to say that this is meant")
            if console.input(f"Remove {runs} runs and their reports? [y/N] ").strip().lower() != "y":
                raise UserError("nothing was removed")
        doomed += [data.results, data.report]
    freed = 0
    for path in doomed:
        if not path.exists():
            continue
        freed += _size(path) if path.is_dir() else path.stat().st_size
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        console.print(escape(f"removed {path}"), highlight=False, soft_wrap=True)
    console.print(f"{freed / 2**20:,.1f} MiB freed", highlight=False)


def _clean_engine(console: Console, *, images: bool) -> None:
    """Containers, volumes and, if asked, images that carry framewatt's label. Without an engine only --images is an error."""
    from common.host.runners.containers import engine, leftovers

    try:
        client = engine.connect()
    except UserError:
        if images:
            raise
        return
    removed, left = leftovers.remove_all(client, images=images)
    for what in removed:
        console.print(escape(f"removed {what}"), highlight=False, soft_wrap=True)
    for what in left:
        console.print(escape(f"left as it is: {what}"), style="yellow", highlight=False, soft_wrap=True)
