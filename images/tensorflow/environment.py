"""What must be decided before `import tensorflow`: log level, cache folders, XLA's flags.

TensorFlow and XLA read their environment once, while they are loaded, and XLA ends the process over a flag that it does
not know. So versions are asked of the package metadata, and only flags of that version are set. What a user has
put into XLA_FLAGS, TF_XLA_FLAGS or the other variables stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

from images.tensorflow import cuda_driver

#: XLA's own default; set explicitly, so that the row says what ran (0 off, 4 all candidates on initialized buffers)
AUTOTUNE_LEVEL = "4"

_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "nvidia-tensorflow")
#: XLA's pass that makes convolution, bias and activation one cuDNN call
_FUSED_CONVOLUTIONS = "cudnn-fused-convolution-rewriter"
_FUSED_CONVOLUTIONS_FAIL_SINCE = (2, 21)
_PERSISTENT_CACHE_SINCE = (2, 10)
_AUTOTUNE_CACHE_SINCE = (2, 17)


@dataclass(frozen=True)
class Caches:
    """Folders that outlive a run, each safe to delete; `root` holds all of them."""

    root: Path
    #: compiled XLA executables, of this TensorFlow, this device and driver only
    xla: Path
    #: XLA's autotuning choices per fusion, likewise
    autotune: Path
    #: frozen and folded graphs, by model hash and TensorFlow version
    graphs: Path
    #: TF-TRT's converted SavedModels
    tftrt: Path

    def forget_executables(self) -> bool:
        """Empties the XLA caches; False when they were empty.

        TensorFlow writes an entry in place, so a worker killed in that moment leaves a truncated one, on which every
        later compile of the same function fails.
        """
        entries = [path for folder in (self.xla, self.autotune) if folder.is_dir() for path in folder.iterdir()]
        for path in entries:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return bool(entries)


def installed_version() -> Optional[str]:
    """Version of the installed TensorFlow without importing it."""
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)
    return None


def release(version: Optional[str]) -> Tuple[int, int]:
    """(2, 21) of "2.21.0"; (0, 0) of what is no version, which no flag is set for."""
    match = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def _device_fingerprint() -> str:
    """Of the GPUs, or of the processor: XLA compiles for the vector units that it finds."""
    gpus = cuda_driver.fingerprint()
    if gpus:
        return "gpu" + gpus
    flags = ""
    with contextlib.suppress(OSError):
        flags = "".join(
            re.findall(r"^(?:model name|flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.M)[:2]
        )
    return "cpu" + hashlib.sha256((platform.machine() + flags).encode()).hexdigest()[:8]


def locate_caches(cache_dir: str) -> Caches:
    version = installed_version() or "unknown"
    root = Path(cache_dir).absolute() / "tensorflow"
    place = f"{version}-{_device_fingerprint()}"
    return Caches(
        root=root,
        xla=root / "xla" / place,
        autotune=root / "xla-autotune" / place,
        graphs=root / "graphs",
        tftrt=root / "tftrt",
    )


def _add_flags(variable: str, flags: Dict[str, str]) -> None:
    given = os.environ.get(variable, "").split()
    names = {flag.lstrip("-").split("=", 1)[0] for flag in given}
    added = [f"--{name}={value}" for name, value in flags.items() if name not in names]
    os.environ[variable] = " ".join(given + added)


def flag_value(variable: str, name: str) -> Optional[str]:
    """Value of a flag in an environment variable of flags; the last one counts."""
    value = None
    for flag in os.environ.get(variable, "").split():
        key, _, given = flag.lstrip("-").partition("=")
        if key == name:
            value = given or "true"
    return value


def configure(cache_dir: Optional[str]) -> Optional[Caches]:
    """Sets the environment for the import; returns the cache folders, None where there is no cache_dir."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    version = release(installed_version())
    if version >= _AUTOTUNE_CACHE_SINCE:
        _add_flags("XLA_FLAGS", {"xla_gpu_autotune_level": AUTOTUNE_LEVEL})
    if not cache_dir:
        return None
    caches = locate_caches(cache_dir)
    for folder in (caches.xla, caches.autotune, caches.graphs, caches.tftrt):
        folder.mkdir(parents=True, exist_ok=True)
    # Keras would write into the home folder, the driver's cache of compiled PTX too
    os.environ.setdefault("KERAS_HOME", str(caches.root / "keras"))
    os.environ.setdefault("CUDA_CACHE_PATH", str(caches.root / "cuda"))
    if version >= _PERSISTENT_CACHE_SINCE:
        _add_flags("TF_XLA_FLAGS", {"tf_xla_persistent_cache_directory": str(caches.xla)})
    if version >= _AUTOTUNE_CACHE_SINCE:
        _add_flags("XLA_FLAGS", {"xla_gpu_per_fusion_autotune_cache_dir": str(caches.autotune)})
    return caches


def without_fused_convolutions() -> bool:
    """Has XLA leave convolution, bias and activation apart; True where it did so.

    To be called before anything is compiled: XLA reads XLA_FLAGS when it first compiles. Seen with TensorFlow 2.21, cuDNN 9.3 on
    an H100: without TensorFloat-32, cuDNN has no engine for a convolution with a bias and no activation, and XLA's autotuner
    then fails ("could not find any supported configs") instead of taking the two apart again. With it, trying the engines,
    which cuDNN compiles one after the other, had not ended after 330 s for one shape; apart, the same shape took 10 s. In half
    precision likewise: not ended after 80 s, apart 10 s; on an H200 not after 150 s, at batch 1 and at 32.
    """
    if release(installed_version()) < _FUSED_CONVOLUTIONS_FAIL_SINCE:
        return False
    name = "xla_disable_hlo_passes"
    given = [word for word in (flag_value("XLA_FLAGS", name) or "").split(",") if word]
    if _FUSED_CONVOLUTIONS not in given:
        others = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag.lstrip("-").split("=", 1)[0] != name]
        os.environ["XLA_FLAGS"] = " ".join([*others, f"--{name}={','.join([*given, _FUSED_CONVOLUTIONS])}"])
    return True


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keeps what native code writes to the screen while TensorFlow loads; shown after all where loading fails.

    Two lines come before TensorFlow's own log level holds, so no setting reaches them.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        screen = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(screen, kept.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


def import_tensorflow() -> Any:
    """The module. ImportError as it comes."""
    with _quiet_stderr():
        tf = importlib.import_module("tensorflow")
    tf.get_logger().setLevel("ERROR")
    return tf
