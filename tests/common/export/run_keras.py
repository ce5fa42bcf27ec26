"""Run with the TensorFlow environment: `run_keras.py MODEL_FOLDER`, Keras file and SavedModel against the reference.

Prints a JSON object: relative L2 error of each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf


def main(folder: Path) -> None:
    reference = np.load(str(folder / "reference.npz"))
    images = tf.constant(reference["inputs"])
    from_keras = keras.models.load_model(folder / "model.keras", compile=False)(images, training=False)
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    (from_saved_model,) = signature(**{name: images}).values()
    size = np.linalg.norm(reference["outputs"])
    outputs = {"keras": from_keras, "saved_model": from_saved_model}
    errors = {
        form: float(np.linalg.norm(np.asarray(values) - reference["outputs"]) / size)
        for form, values in outputs.items()
    }
    json.dump({"errors": errors, "batch": signature.structured_input_signature[1][name].shape[0]}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
