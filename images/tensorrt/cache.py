"""Engines on disk: built once for a model, TensorRT version, GPU, precision and profile, and never trusted blindly.

`<cache_dir>/tensorrt/<model hash>-<version>-<GPU>-<precision>-<profile>-<rest of the key>.engine`, beside it a
`.json` with the whole key, the size and the SHA-256. The engine is renamed into place before its `.json`, so that a
crash between the two leaves an engine without a description, which is built again.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from common.whole_writes import write_whole
from images.tensorrt.log import log_line

#: Part of every key: raise it when the way an engine is built changes in a manner that the other fields do not show.
RECIPE = 1
#: likewise of what retype() makes, which goes with common/float16.py: raised when that rounds, limits or refuses something else
RETYPED_RECIPE = 3


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on."""

    model_hash: str
    #: tensorrt or tensorrt_rtx, and its version
    library: str
    version: str
    #: product name and compute capability
    gpu: str
    precision: str
    profile: str
    tactic_sources: str
    workspace_bytes: int
    builder_level: int
    strongly_typed: bool
    recipe: int = RECIPE

    @property
    def stem(self) -> str:
        """Readable file name; its last part tells apart keys that differ in the fields that the name leaves out."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        parts = (self.model_hash, self.library, self.version, self.gpu, self.precision, self.profile, digest)
        return "-".join(_slug(part) for part in parts)

    @property
    def timing_cache_name(self) -> str:
        """Timings of tactics hold for every model of one precision on one GPU and version."""
        return "-".join(_slug(part) for part in (self.library, self.version, self.gpu, self.precision)) + ".timing"

    @property
    def calibration_name(self) -> str:
        parts = (self.model_hash, self.library, self.version, "int8")
        return "-".join(_slug(part) for part in parts) + ".calibration"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.@_]+", "_", text)


def read_engine(folder: Path, key: EngineKey) -> Optional[Tuple[bytes, Dict[str, Any]]]:
    """The engine and the facts stored with it; None, after one line in the log, for one that cannot be trusted.

    None without a line where there is none yet.
    """
    engine, description = _paths(folder, key)
    if not engine.exists() and not description.exists():
        return None
    try:
        facts: Dict[str, Any] = json.loads(description.read_text())
        plan = engine.read_bytes()
        wrong = _distrust(facts, plan, key)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = f"its description or the file cannot be read ({type(error).__name__}: {error})"
    if wrong:
        log_line(f"cached engine {engine.name} is built again: {wrong}")
        return None
    return plan, facts


def _distrust(facts: Mapping[str, Any], plan: bytes, key: EngineKey) -> Optional[str]:
    stored = facts["key"]
    expected = asdict(key)
    for name, value in expected.items():
        if stored.get(name) != value:
            return f"it is of another {name} ({stored.get(name)!r}, here {value!r})"
    if len(plan) != facts["bytes"]:
        return f"it has {len(plan)} of {facts['bytes']} bytes"
    if hashlib.sha256(plan).hexdigest() != facts["sha256"]:
        return "its SHA-256 differs from the one it was stored with"
    return None


def write_engine(folder: Path, key: EngineKey, plan: bytes, facts: Mapping[str, Any]) -> None:
    """Stores an engine with facts about its build. A cache that cannot be written costs a line in the log, no cell."""
    engine, description = _paths(folder, key)
    stored = dict(facts, key=asdict(key), bytes=len(plan), sha256=hashlib.sha256(plan).hexdigest())
    write_blob(engine, plan)
    write_blob(description, (json.dumps(stored, indent=1, sort_keys=True) + "\n").encode())


def _paths(folder: Path, key: EngineKey) -> Tuple[Path, Path]:
    return folder / f"{key.stem}.engine", folder / f"{key.stem}.json"


def read_blob(path: Path) -> bytes:
    """Contents of a cache file, b"" where there is none or it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write_blob(path: Path, data: bytes) -> None:
    """Writes the file whole; a failure is one line in the log."""
    try:
        write_whole(path, data)
    except OSError as error:
        log_line(f"{path.name} cannot be cached: {error.strerror}")
