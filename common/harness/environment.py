"""The environment of a worker: frameworks keep their caches in the job's cache folder and their chatter to themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict

from common.job import Job

REPOSITORY = Path(__file__).resolve().parents[2]

#: variable -> folder within the job's cache folder
_CACHES = {
    "XDG_CACHE_HOME": "xdg",
    "KERAS_HOME": "keras",
    "TORCH_HOME": "torch",
    # those of the torch adapter, so that a recipe beside it (`invoke verify`) has the same kernels: of each that is fused, inductor
    # times a few forms when it is first compiled, and keeps the fastest in this folder
    "TORCHINDUCTOR_CACHE_DIR": "torchcompile/inductor",
    "TRITON_CACHE_DIR": "torchcompile/triton",
    "CUDA_CACHE_PATH": "cuda",
    "MPLCONFIGDIR": "matplotlib",
}

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def worker_environment(job: Job) -> Dict[str, str]:
    """Variables for the worker process; makes the cache folders. Raises OSError when it cannot."""
    # A container has none of the caller's variables but those that travel with the job; what follows here comes before them.
    environment = {**os.environ, **job.environment}
    for variable, folder in _CACHES.items():
        path = Path(job.cache_dir).resolve() / folder
        path.mkdir(parents=True, exist_ok=True)
        environment[variable] = str(path)
    # What an adapter must know before it imports its framework, or before it is told the first batch.
    environment["FRAMEWATT_CACHE_DIR"] = str(Path(job.cache_dir).resolve())
    environment["FRAMEWATT_BATCH_SIZES"] = ",".join(
        str(size) for size in sorted({cell.batch_size for cell in job.cells})
    )
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # A worker that dies of a signal leaves its Python stack in the log; the log is complete at that moment.
    environment["PYTHONFAULTHANDLER"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    # Containers run as a user id without a name, which getpass.getuser() cannot look up.
    environment.setdefault("LOGNAME", "framewatt")
    paths = [str(REPOSITORY), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    if job.threads is not None:
        # Thread pools of BLAS and OpenMP are sized when the libraries load, before an adapter can say anything.
        environment.update(dict.fromkeys(_THREADS, str(job.threads)))
    return environment
