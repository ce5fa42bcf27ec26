"""Run with the TensorFlow environment: the `imagenet` path of the exporter against a server that stands in for Keras'.

run_imagenet.py weights MODEL_FOLDER FILE      writes the weights of model.keras as Keras publishes them; prints the MD5
run_imagenet.py attempts REQUEST.json          for each of [url, wanted]: what `weighted` gives, or the error
run_imagenet.py export REQUEST.json ARGUMENT.. python -m common.export ARGUMENT...

A request names the application's module, the hash that is expected of the file, and URLs; only these replace Keras' own.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from common import models
from common.errors import UserError
from common.export.progress import Progress


def write_weights(folder: Path, file: Path) -> None:
    import h5py
    import keras
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(file, "w") as out:
        legacy_h5_format.save_weights_to_hdf5_group(out, keras.models.load_model(folder / "model.keras", compile=False))
    print(hashlib.md5(file.read_bytes()).hexdigest())


def patch(request: dict[str, Any], url: str) -> None:
    application: Any = importlib.import_module(f"keras.src.applications.{request['module']}")
    application.BASE_WEIGHT_PATH = url
    application.WEIGHTS_HASHES = dict.fromkeys(application.WEIGHTS_HASHES, (request["md5"], ""))


def attempts(request: dict[str, Any]) -> list[dict[str, Any]]:
    from common.export import weights

    weights.DOWNLOAD_TIMEOUT_S = request["timeout_s"]
    entry = models.find(request["model"])
    downloads = Path(os.environ["KERAS_HOME"]) / "models"
    found = []
    for url, wanted in request["attempts"]:
        patch(request, url)
        try:
            made = weights.weighted(entry, wanted, "float32")
            answer = {"origin": made.origin, "note": made.note}
        except UserError as error:
            answer = {"error": str(error)}
        found.append({**answer, "left": sorted(path.name for path in downloads.glob("*"))})
    return found


def main() -> None:
    if sys.argv[1] == "weights":
        write_weights(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    request = json.loads(Path(sys.argv[2]).read_text())
    if sys.argv[1] == "attempts":
        print(json.dumps(attempts(request)))
        return
    from common.export import __main__ as command

    def progress(*arguments: Any) -> Any:
        # the command is about to export: only now has it said where Keras keeps its files, and imported it
        patch(request, request["url"])
        registered: Any = importlib.import_module("common.export.registered")
        registered.CLASS_INDEX_URL = request["class_index_url"]
        registered.CLASS_INDEX_MD5 = request.get("class_index_md5", registered.CLASS_INDEX_MD5)
        return Progress(*arguments)

    command.Progress = progress
    sys.exit(command.main(sys.argv[3:]))


if __name__ == "__main__":
    main()
