"""Where things lie on the user's machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "images"


def may_only_be_read(folder: Path) -> bool:
    """Whether this user may not write into a folder, or not make it in the folder that would hold it.

    False where something else is in the way, a file or a link to a disk that is not mounted: whoever uses the folder is to say so.
    """
    existing = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    folder_there = os.path.isdir(existing)  # noqa: PTH112 - Path.is_dir raises where a link leads to what may not be searched
    return folder_there and not os.access(existing, os.W_OK | os.X_OK)


def in_users_cache(of: Path, what: str) -> Path:
    """A folder in the user's cache, for what belongs to a folder that this user may only read."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    if not cache.is_absolute():  # no HOME
        cache = Path(tempfile.gettempdir()) / f"framewatt-{os.getuid()}"
    return cache / "framewatt" / f"{what}-{hashlib.sha256(str(of).encode()).hexdigest()[:12]}"


def _environments() -> Path:
    """`.envs` of the checkout; of a checkout that this user may only read, a folder in the user's cache."""
    own = ROOT / ".envs"
    if os.access(own if own.is_dir() else ROOT, os.W_OK):
        return own
    return in_users_cache(ROOT, "envs")


ENVIRONMENTS = _environments()


@dataclass(frozen=True)
class DataFolder:
    """`data/` of the checkout, or the folder that FRAMEWATT_DATA names.

    One that this user may only read (another's, a disk that is mounted so) is analyzed all the same: reports and the host's cache
    then lie in the user's cache folder.
    """

    root: Path
    #: folder for runs, where it is not the ordinary one
    runs_in: Path | None = None

    @classmethod
    def default(cls) -> DataFolder:
        return cls(Path(os.environ.get("FRAMEWATT_DATA", ROOT / "data")).resolve())

    def _writable(self, name: str) -> Path:
        own = self.root / name
        return in_users_cache(self.root, "data") / name if may_only_be_read(own) else own

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def results(self) -> Path:
        return self.runs_in or self.root / "results"

    @property
    def fleet(self) -> Path:
        """Runs of hosts of a fleet while they are carried to whoever sent them."""
        return self.root / "fleet"

    @property
    def cache(self) -> Path:
        """Where versions before November 2026 kept all caches; `invoke clean --cache` removes it."""
        return self.root / "cache"

    @property
    def framework_caches(self) -> Path:
        """What frameworks compiled; containers write there, and the host reads nothing of it."""
        return self.root / "framework-cache"

    def framework_cache(self, image: str, of: str = "processes") -> Path:
        """The folder of one image there; no other image's containers see it.

        of: what runs it: "processes" of this machine, or the prefix of the images' names.
        """
        return self.framework_caches / of / image

    @property
    def host_cache(self) -> Path:
        """What the analysis has worked out and unpacked. No container mounts it: the host believes what it finds here."""
        return self._writable("host-cache")

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def report(self) -> Path:
        return self._writable("report")
