"""Run with the TensorFlow environment: the `imagenet` path of the exporter against a server that stands in for Keras'.

run_imagenet.py weights MODEL_FOLDER FILE      writes the weights of model.keras as Keras publishes them; prints the MD5
run_imagenet.py attempts REQUEST.json          for each of [url, wanted]: what `weighted` gives, or the error
run_imagenet.py export REQUEST.json ARGUMENT.. python -m common.export ARGUMENT..., then whether its weights are those of SAME_AS

A request names the application's module, the hash that is expected of the file, and URLs, which replace Keras' own, and the
size of the pictures: these weights are for any, and small ones are exported in seconds.
"""

from __future__ import annotations

import dataclasses
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
    application = importlib.import_module(f"keras.src.applications.{request['module']}")
    application.BASE_WEIGHT_PATH = url
    application.WEIGHTS_HASHES = dict.fromkeys(application.WEIGHTS_HASHES, (request["md5"], ""))


def shrink(request: dict[str, Any]) -> None:
    models.MODELS[request["model"]] = dataclasses.replace(models.find(request["model"]), size=request["size"])


def same_weights(one: Path, other: Path) -> bool:
    import keras
    import numpy as np

    weights = [keras.models.load_model(path / "model.keras", compile=False).get_weights() for path in (one, other)]
    return len(weights[0]) == len(weights[1]) and all(map(np.array_equal, *weights))


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
    shrink(request)
    if sys.argv[1] == "attempts":
        print(json.dumps(attempts(request)))
        return
    from common.export import __main__ as command

    def progress(*arguments: Any) -> Any:
        # the command is about to export: only now has it said where Keras keeps its files, and imported it
        patch(request, request["url"])
        registered = importlib.import_module("common.export.registered")
        registered.CLASS_INDEX_URL = request["class_index_url"]
        registered.CLASS_INDEX_MD5 = request.get("class_index_md5", registered.CLASS_INDEX_MD5)
        return Progress(*arguments)

    command.Progress = progress
    code = command.main(sys.argv[3:])
    if not code and "same_as" in request:
        (made,) = Path(request["out"]).glob(f"{request['model']}-*")
        Path(request["answer"]).write_text(json.dumps(same_weights(made, Path(request["same_as"]))))
    sys.exit(code)


if __name__ == "__main__":
    main()
