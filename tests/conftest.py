"""For all tests."""

from __future__ import annotations

import fcntl
import signal
from pathlib import Path

import pytest

from common.host import models
from common.host.frameworks import environments
from common.host.paths import DataFolder
from common.model_files import ModelFiles
from common.models import DEFAULT_MODEL

# A shell starts background jobs with SIGINT ignored, and every process under them inherits that: the tests of Ctrl-C
# would then wait for something that cannot happen.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent

#: what takes minutes comes first, the longest in front: pytest's processes take file after file, and the last must be short
LONGEST = (
    "images/test_transformers.py",
    "images/test_tensorflow.py",
    "images/test_recipes.py",
    "images/test_born_in_torch.py",
    "images/test_scenarios.py",
    "images/test_published_models.py",
    "common/export/test_registered.py",
    "common/export/test_imagenet.py",
    "common/export/test_user_onnx.py",
    "analysis/database/test_cache.py",
    "images/test_other_forms.py",
    "images/test_torch.py",
    "analysis/output/test_report.py",
    "engine/test_small_images.py",
    "engine/test_hostile_image.py",
    "engine/test_compose.py",
    "engine/test_notebook.py",
    "engine/test_engine_dies.py",
    "engine/test_bench.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {HERE / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(scope="session")
def exported_model() -> ModelFiles:
    """The model that users measure, from data/models; exported there once where it is missing, as the demo does it.

    Its weights are seeded: a download would make the tests depend on the network. Skips the test, naming what is
    missing, where there is neither the model nor the environment that exports it.
    """
    folder = DataFolder.default().models
    found = models.find_model(folder, DEFAULT_MODEL)
    if found is not None:
        return found
    if not environments.is_ready("tensorflow", "cpu"):
        pytest.skip(
            f"no {DEFAULT_MODEL} in data/models, and no .envs/tensorflow-cpu to export it: ./invoke test has both"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".export.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two sessions at once export it once
        return models.ensure_model(
            DEFAULT_MODEL,
            folder,
            lambda image: environments.interpreter(image, "cpu"),
            lambda *step: None,
            models.ExportOptions("seeded"),
        )
