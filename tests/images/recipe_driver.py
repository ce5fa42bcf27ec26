"""Runs in a framework's interpreter: `recipe_driver.py REQUEST.json`, facts as JSON to the file that it names.

Actions: `adapters` prepares each case with the adapter and keeps its settings and outputs; `recipes`, started with `-I` so
that nothing of framewatt can be imported, runs each program as a user would; `alone` keeps infer() of each program and nothing
else, and says how many of the arrays that are fed or bound are freed then; `refused` runs each program on model files that are
none, and has the exit code and what was said.
"""

import gc
import json
import os
import runpy
import sys
import traceback
import weakref
from pathlib import Path
from types import SimpleNamespace


def adapters(request):
    sys.path.insert(0, request["repository"])
    os.environ["FRAMEWATT_CACHE_DIR"] = request["cache"]
    import numpy as np

    from common.cell import Cell
    from common.harness.interleaved_side import save
    from common.harness.reference import Reference, as_fed
    from common.harness.worker import expect, import_adapter, tune
    from common.model_files import ModelFiles

    create = import_adapter(Path(request["adapter"]))
    facts = []
    for case in request["cases"]:
        model = ModelFiles.read(Path(case["model"]))
        cell = Cell(
            model=model.name, variant=case["variant"], precision=case["precision"], batch_size=4, io=case["io"],
            tuning=case["tuning"], input=case["input"],
        )  # fmt: skip
        batch = as_fed(Reference.read(model).batch(4), cell.input, model)
        adapter = create(cell.variant)
        tune(adapter, cell.tuning)
        assert adapter.supports(cell) is None, adapter.supports(cell)
        adapter.load(model, cell.precision, "cpu", request["cache"], None)
        expect(adapter, cell)
        adapter.prepare(batch, cell.io)
        adapter.run()
        stem = Path(request["folder"]) / case["name"]
        np.savez(f"{stem}.inputs.npz", **batch)
        save(Path(f"{stem}.adapter"), adapter.output(), model.outputs)
        facts.append({"settings": adapter.settings(), "versions": adapter.versions()})
        adapter.close()
    return facts


def recipes(request):
    facts = []
    for path in request["programs"]:
        stem = path[: -len(".py")]
        sys.argv = [path, "--seconds", "0.05", "--inputs", f"{stem}.inputs.npz", "--save", f"{stem}.outputs.npz"]
        try:
            runpy.run_path(path, run_name="__main__")
            facts.append("")
        except BaseException:
            facts.append(traceback.format_exc())
    loaded = [name for name in sys.modules if name.split(".")[0] in ("common", "images", "analysis")]
    assert not loaded, loaded
    return facts


def refused(request):
    import contextlib
    import io

    facts = {}
    for path in request["programs"]:
        for model in request["models"]:
            sys.argv = [path, model, "--seconds", "0.01"]
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said):
                    runpy.run_path(path, run_name="__main__")
                code = 0
            except SystemExit as end:
                code = end.code
            except BaseException:
                code = traceback.format_exc()
            facts[f"{path} {model}"] = [code, said.getvalue()]
    return facts


def alone(request):
    import numpy as np

    facts = []
    for path in request["programs"]:
        recipe = runpy.run_path(path, run_name="recipe")
        arrays = []

        def empty_like(like, arrays=arrays):
            made = np.empty_like(like)
            arrays.append(weakref.ref(made))
            return made

        load = recipe["load"]
        load.__globals__["np"] = SimpleNamespace(**{**vars(np), "empty_like": empty_like})
        with np.load(path[: -len(".py")] + ".inputs.npz") as stored:
            inputs = {name: stored[name] for name in stored.files}
        arrays += [weakref.ref(values) for values in inputs.values()]
        infer, outputs = load(recipe["MODEL"], inputs)
        del inputs, outputs
        gc.collect()
        infer()
        facts.append(sum(one() is None for one in arrays))
    return facts


if __name__ == "__main__":
    requested = json.loads(Path(sys.argv[1]).read_text())
    actions = {"adapters": adapters, "recipes": recipes, "alone": alone, "refused": refused}
    answer = actions[requested["action"]](requested)
    Path(requested["answer"]).write_text(json.dumps(answer))
