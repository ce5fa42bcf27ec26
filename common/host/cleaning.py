"""`invoke clean`: removes what interrupted runs left behind, and on request what framewatt made."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.held_folders import TEMPORARY, is_held
from common.host import temporary
from common.host.fleet.worker.scratch import leftovers as fleet_leftovers
from common.host.frameworks.environments import OF_VERSION, of_versions, size_of
from common.host.paths import ENVIRONMENTS, DataFolder
from common.host.runs.run import WRITTEN_BY_OTHERS, locked
from common.host.runs.untrusted import remove_folder
from common.text import counted

#: Where earlier versions kept what only the host reads, in a folder that containers write.
_OLD = ("cache/analysis", "cache/unsealed")
#: temporary folders that whoever still works in one holds
_HELD = (f"models/{TEMPORARY}*", f"models/*/{TEMPORARY}*", f"framework-cache/**/{TEMPORARY}*", "host-cache/unsealed/.*")


def leftovers(data: DataFolder) -> list[Path]:
    """Temporary folders and files that a killed run, export or verify did not come to remove."""
    patterns = (
        "results/*/unfinished/*", "results/*/.run.json.*", "results/.probe-*", "results/.importing-*", "results/.*.tar.xz.*",
        *_OLD,
    )  # fmt: skip
    found = [path for pattern in patterns for path in data.root.glob(pattern)]
    return sorted([*found, *_abandoned(data), *_of_dead_jobs(data), *fleet_leftovers(data), *temporary.leftovers()])


def _abandoned(data: DataFolder) -> list[Path]:
    """Temporary folders whose makers are gone. What containers write may be a link, or lie behind one: that stays."""
    found = []
    for path in (path for pattern in _HELD for path in data.root.glob(pattern)):
        below = len(path.relative_to(data.root).parts)
        # the folders of data itself may be links: the user's, to a larger disk
        if not any(one.is_symlink() for one in (path, *path.parents)[: below - 1]) and not is_held(path):
            found.append(path)
    return found


def _of_dead_jobs(data: DataFolder) -> list[Path]:
    """Folders that jobs and sidecars wrote, of runs that nobody holds; continuing a run would take what holds in them."""
    found = []
    for run in data.results.glob("*"):
        folders = [run / name for name in WRITTEN_BY_OTHERS if (run / name).is_dir()]
        if folders:
            with suppress(UserError), locked(run / ".lock", run.name):
                found += folders
    return found


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
    versions: bool = False,
) -> None:
    """Removes leftovers always, the rest as named. Raises UserError when results would go and nobody can be asked."""
    _clean_engine(console, images=images, versions=versions)
    to_remove = leftovers(data)
    if models:
        to_remove.append(data.models)
    if cache:
        to_remove += [data.cache, data.framework_caches, data.host_cache]
    if environments:
        to_remove.append(ENVIRONMENTS)
    elif versions:
        to_remove += [*of_versions(), *sorted(ENVIRONMENTS.glob(f"*{OF_VERSION}*.lock"))]
    if results:
        runs = len(list(data.results.glob("*/run.json")))
        if not yes:
            if not console.is_terminal:
                raise UserError(f"--results would remove {counted(runs, 'run')}; add --yes to say that this is meant")
            if console.input(f"Remove {counted(runs, 'run')} and all reports? [y/N] ").strip().lower() != "y":
                raise UserError("nothing was removed")
        to_remove += [data.results, data.report]
    freed = 0
    for path in to_remove:
        if not path.exists():
            continue
        freed += size_of(path) if path.is_dir() else path.stat().st_size
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink()
        console.print(escape(f"removed {path}"), highlight=False, soft_wrap=True)
    console.print(f"{freed / 2**20:,.1f} MiB freed", highlight=False)


def _clean_engine(console: Console, *, images: bool, versions: bool) -> None:
    """Containers, volumes and, if asked, images that carry framewatt's label. Without an engine only --images is an error."""
    from common.host.runners.containers import engine, leftovers

    try:
        client = engine.connect()
    except UserError:
        if images:
            raise
        return
    removed, left = leftovers.remove_all(client, images=images, versions=versions)
    for what in removed:
        console.print(escape(f"removed {what}"), highlight=False, soft_wrap=True)
    for what in left:
        console.print(escape(f"left as it is: {what}"), style="yellow", highlight=False, soft_wrap=True)
