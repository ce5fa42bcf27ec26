"""Run by an image's interpreter: `parity_driver.py IMAGE VARIANT SIZES MODEL_FOLDER ...`; parity of each model as a line of JSON."""

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


def main(image, variant, sizes, *folders):
    untimed.take_the_first_way()
    create = importlib.import_module(f"images.{image}.adapter").create
    for folder in map(Path, folders):
        for size in map(int, sizes.split(",")):
            print(
                json.dumps(
                    {"model": folder.name, "size": size, **judge(create, variant, folder, size, folder / "cache")}
                )
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
