"""An image that means harm, on a real engine: nothing of the host or of other cells changes, and the sweep goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from common.errors import UserError
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES, ROOT, DataFolder
from tests.engine.conftest import PREFIX, Bench, rows
from tests.engine.test_compose import PROJECT, environment

EVIL = f"{PREFIX}-evil"
SIZES = range(1, 9)
#: batch size -> what is said of the cell of replicate 0
REFUSED = {
    1: "what its container left is refused: samples.csv is a link",
    2: "is a link",
    3: "what its container left is refused: phases.csv is a FIFO",
    4: "what its container left is refused: samples.csv is larger than 1073741824 bytes",
    5: "what its container left is refused: cell.csv says variant 'torch', the job 'onnxrt'",
    6: "what its container left is refused: samples.csv is missing",
}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the host, beside which nothing lies."""
    path = tmp_path_factory.mktemp("host") / "victim"
    path.write_text("as it was")
    return path


@pytest.fixture(scope="module")
def evil_image(client: DockerClient, victim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Made on the honest one, with its labels; its sidecar, and what stands in for other images, are honest."""
    context = tmp_path_factory.mktemp("evil")
    text = (Path(__file__).parent / "hostile" / "evil_main.py").read_text()
    (context / "evil_main.py").write_text(text.replace("@VICTIM@", str(victim)))
    (context / "Dockerfile").write_text(
        f"FROM {PREFIX}/onnxrt:cpu\nCOPY evil_main.py /opt/framewatt/common/harness/__main__.py\n"
    )
    made = [f"{EVIL}/onnxrt:cpu"]
    client.images.build(path=str(context), tag=made[0], rm=True)
    others = [f"{image.name}:cpu" for image in load_images(IMAGES) if image.name != "onnxrt"]
    for name in ("sidecar:cpu", "analyze:local", *others):
        source = "onnxrt:cpu" if name in others else name
        repository, _, tag = f"{EVIL}/{name}".rpartition(":")
        client.images.get(f"{PREFIX}/{source}").tag(repository, tag)
        made.append(f"{EVIL}/{name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMEWATT_IMAGES", EVIL)
        yield
    for name in made:
        client.images.remove(name)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_rows(run: Path) -> None:
    cells = rows(run)
    assert len(cells) == 2 * len(SIZES)
    for row in cells.values():
        size, replicate = int(row["batch_size"]), int(row["replicate"])
        if replicate == 1:
            assert (row["status"], row["variant"]) == ("ok", "onnxrt"), row
            assert float(row["parity_rel_l2"]) <= float(row["parity_tolerance"])
        elif size == 8 and row["status"] == "ok":  # it was caught between two rewritings, and held
            assert row["samples"] == "3"
        else:
            assert row["status"] == "crashed", row
            assert REFUSED.get(size, "") in row["message"]
            assert row["message"].isprintable()
    (seven,) = [row for row in cells.values() if row["batch_size"] == "7" and row["replicate"] == "0"]
    assert "refused" not in seven["message"]  # it left nothing in its own place


def attempts(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if "ATTEMPT " in line]
    return dict(line.partition("ATTEMPT ")[2].split(": ", 1) for line in lines)


def test_bench_refuses_what_a_hostile_image_left_and_goes_on(
    run_bench: Bench, client: DockerClient, victim: Path, evil_image: None
) -> None:
    # Another run's cells, and a cache that the host reads.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMEWATT_IMAGES", PREFIX)
        before = run_bench(batch_sizes="1")
    (run_bench.data.host_cache / "analysis").mkdir(parents=True)
    (run_bench.data.host_cache / "analysis" / "index.json").write_text("the host's")
    kept = [
        before.run.folder,
        run_bench.data.models,
        run_bench.data.host_cache,
        run_bench.data.framework_caches / PREFIX,
    ]
    was = [everything(folder) for folder in kept]
    length_before = len(run_bench.output.getvalue())

    outcome = run_bench(batch_sizes=",".join(map(str, SIZES)), replicates=2)
    run = outcome.run.folder
    assert run != before.run.folder
    assert outcome.errors == [] and outcome.run.finished
    check_rows(run)

    assert victim.read_text() == "as it was"
    assert list(victim.parent.iterdir()) == [victim]
    assert [everything(folder) for folder in kept] == was
    for path in run.rglob("*"):
        assert not path.is_symlink() and (path.is_file() or path.is_dir()), path
        assert path.lstat().st_uid == os.getuid()
    assert {path.name for path in run.iterdir()} <= {
        "cells", "logs", "jobs", "run.json", "attempts.csv", "unfinished", ".lock", "power.csv",
    }  # fmt: skip
    assert json.loads((run / "run.json").read_text())["plan"]

    log = (run / "logs" / "onnxrt_fp32_script_cpu_r0.container.log").read_text()
    tried = attempts(log)
    assert set(tried) == {"model", "new model", "job", "power", "board", "code", "other cache", "above", "device"}
    assert all("done" not in words for words in tried.values()), tried
    assert 'SEES ["cache", "job.json", "models", "power", "run"] ["logs"]' in log
    assert f"SEES models {json.dumps([path.name for path in run_bench.data.models.iterdir()])}" in log
    assert "SEES cache []" in log

    output = run_bench.output.getvalue()[length_before:].splitlines()
    for size, words in REFUSED.items():
        assert (
            len([line for line in output if f"onnxrt fp32 batch {size} host: crashed" in line and words in line]) == 1
        ), output
    others = [line for line in output if "not taken from its container" in line]
    assert any("_r1, which is none of its cells" in line for line in others), output
    assert any(".container.log is no log of a worker" in line for line in others), output
    assert len(others) <= 10 and "\x1b" not in "".join(output)


def test_an_image_that_gives_up_costs_its_own_cells(run_bench: Bench, client: DockerClient) -> None:
    """An `error` is the image's own affair where the host's disk is not full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMEWATT_IMAGES", f"{PREFIX}-gives-up")
        made = [f"{PREFIX}-gives-up/{name}:cpu" for name in ("onnxrt", "sidecar")]
        for name, source in zip(made, ("onnxrt", "sidecar"), strict=True):
            client.images.get(f"{PREFIX}/{source}:cpu").tag(name.rpartition(":")[0], "cpu")
        output = '{"event": "error", "message": "all is lost \\u001b[31m"}'
        try:
            outcome = run_bench_with(run_bench, patch, ["sh", "-c", f"echo '{output}'; exit 2"])
        finally:
            for name in made:
                client.images.remove(name)
    assert outcome.errors == [] and outcome.run.finished
    assert {(row["status"], row["message"]) for row in rows(outcome.run.folder).values()} == {
        ("crashed", "all is lost [31m")
    }


def run_bench_with(run_bench: Bench, patch: pytest.MonkeyPatch, entrypoint: list[str]) -> Any:
    """The worker's containers run something else."""
    from common.host.runners.containers.runner import DockerRunner

    create = DockerRunner._create

    def other(self: Any, image: str, name: str, command: list[str], **arguments: Any) -> Any:
        if "onnxrt_fp32" in name:
            arguments["entrypoint"] = entrypoint
        return create(self, image, name, command, **arguments)

    patch.setattr(DockerRunner, "_create", other)
    return run_bench()


def test_compose_refuses_the_same_and_goes_on(
    registered_model: DataFolder, client: DockerClient, victim: Path, evil_image: None
) -> None:
    data = registered_model.root
    was = everything(registered_model.models)
    variables = environment(
        data, FRAMEWATT_IMAGES=EVIL, FRAMEWATT_FRAMEWORKS="onnxrt", FRAMEWATT_REPLICATES="2",
        FRAMEWATT_BATCH_SIZES=",".join(map(str, SIZES)),
    )  # fmt: skip
    command = ["docker", "compose", "-p", PROJECT, "--profile", "cpu"]
    try:
        done = subprocess.run(
            [*command, "up", "--no-build"], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=400
        )
    finally:
        subprocess.run([*command, "down", "-t", "1"], cwd=ROOT, env=variables, check=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (data / "results").iterdir()
    check_rows(run)
    assert victim.read_text() == "as it was" and list(victim.parent.iterdir()) == [victim]
    assert everything(registered_model.models) == was
    tried = attempts(done.stdout)
    assert set(tried) == {"model", "new model", "job", "power", "board", "code", "other cache", "above", "device"}
    assert tried.pop("above") == "done"  # the folder of its own service, which is not read as a job's
    assert all("done" not in words for words in tried.values()), tried
    assert not any(path.is_symlink() for path in run.rglob("*"))
    shutil.rmtree(data / "compose")


@pytest.fixture
def evil_exporter(
    client: DockerClient, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    context = tmp_path / "context"
    context.mkdir()
    text = (Path(__file__).parent / "hostile" / "evil_export.py").read_text()
    (context / "evil_export.py").write_text(text.replace("@VICTIM@", str(victim)))
    (context / "Dockerfile").write_text(
        f"FROM {PREFIX}/onnxrt:cpu\nCOPY evil_export.py /opt/framewatt/common/export/__main__.py\n"
    )
    client.images.build(path=str(context), tag=f"{EVIL}-export/onnxrt:cpu", rm=True)
    client.images.get(f"{PREFIX}/sidecar:cpu").tag(f"{EVIL}-export/sidecar", "cpu")
    monkeypatch.setenv("FRAMEWATT_IMAGES", f"{EVIL}-export")
    yield
    for name in ("onnxrt:cpu", "sidecar:cpu"):
        client.images.remove(f"{EVIL}-export/{name}")


def test_an_exporter_sees_no_other_model_and_leaves_none_that_does_not_hold(
    fresh_bench: Bench, victim: Path, evil_exporter: None, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "evil.onnx").write_bytes(b"weights.bin secret.bin")
    (folder / "weights.bin").write_text("weights")
    (folder / "secret.bin").symlink_to(victim)  # what it leads to would be bound in its place
    models = fresh_bench.data.models
    (models / "other").mkdir(parents=True)
    (models / "other" / "model.json").write_text("{}")
    was = everything(models)
    with pytest.raises(UserError, match=r"what the export of evil-0+ left is refused: model.json is a link"):
        fresh_bench(model=str(folder / "evil.onnx"))
    assert everything(models) == was and [path.name for path in models.iterdir()] == ["other"]
    assert victim.read_text() == "as it was" and list(victim.parent.iterdir()) == [victim]
    output = fresh_bench.output.getvalue()
    assert 'SEES [".keras"]' in output and 'SEES ["evil.onnx", "weights.bin"]' in output and "\x1b" not in output
