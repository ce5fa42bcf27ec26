"""Run by an image's interpreter: `parity_driver.py IMAGE VARIANTS SIZES MODEL_FOLDER ...`; each parity as a line of JSON.

VARIANTS and SIZES are comma lists; VARIANT:SIZE has a batch size of its own. One process serves them all: a framework takes
longer to import than to compute a small model. The models take turns: each first one is judged in the first way of running it
that the level has, each second one in the last.
"""

import importlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common.harness import parity, scenarios
from common.harness.adapter import Unsupported
from common.harness.reference import Reference
from common.model_files import ModelFiles
from tests.images import untimed


def judge(create, variant, folder, size, cache):
    model = ModelFiles.read(folder)
    reference = Reference.read(model)
    adapter = create(variant)
    size = model.fixed_batch or size
    try:
        adapter.load(model, "fp32", "cpu", str(cache), 1)
        outputs = []
        for batch in reference.batches(size):
            adapter.prepare(batch, "host")
            adapter.run()
            outputs.append(scenarios.held(adapter.output()))
        verdict = parity.compare_all(outputs, reference, size, "fp32")
        return {
            "passed": verdict.passed,
            "by_output": verdict.by_output,
            "reason": "" if verdict.passed else verdict.reason,
        }
    except Unsupported as error:
        return {"unsupported": str(error)}


def main(image, variants, sizes, *folders):
    create = importlib.import_module(f"images.{image}.adapter").create
    for number, folder in enumerate(map(Path, folders)):
        untimed.build_only(-1 if number % 2 else 0)
        for word in variants.split(","):
            variant, _, own = word.partition(":")
            for size in map(int, [own] if own else sizes.split(",")):
                row = judge(create, variant, folder, size, folder / "cache")
                print(json.dumps({"model": folder.name, "variant": variant, "size": size, **row}))


if __name__ == "__main__":
    main(*sys.argv[1:])
