"""The engine is killed or stopped in the middle of a sweep in containers: one line, and the same command goes on.

FRAMEWATT_CHAOS=50 says how many random moments there are (6 without it), FRAMEWATT_CHAOS_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from common.host.runners.containers import engine, images
from tests.common.host.faults.chaos import SEED, check_run, check_table, disturbed_sweeps, moments
from tests.common.host.faults.conftest import CELLS, TOY, World, make_world, nvml  # noqa: F401
from tests.engine.conftest import PREFIX
from tests.engine.own_engine import DoesNotStart, OwnEngine, why_not

DOCKERFILE = f"""\
FROM {PREFIX}/onnxrt:cpu
COPY adapter.py /opt/framewatt/images/toy/adapter.py
"""


@pytest.fixture(scope="module")
def own_engine(client: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    """An engine with the images of a toy framework and of the sidecar."""
    if why_not():
        pytest.skip(why_not())
    context = tmp_path_factory.mktemp("toy")
    shutil.copy(TOY, context / "adapter.py")
    (context / "Dockerfile").write_text(DOCKERFILE)
    labels = {engine.LABEL: "1", f"{engine.LABEL}.source": images.source_digest("toy")}
    client.images.build(path=str(context), tag=f"{PREFIX}/toy:gpu", labels=labels, rm=True)
    client.images.get(f"{PREFIX}/sidecar:cpu").tag(f"{PREFIX}/sidecar", "gpu")
    own = OwnEngine()
    try:
        try:
            own.start()
        except DoesNotStart as error:  # in a container without the rights for it, say
            pytest.skip(f"no engine of its own can be started here: {str(error).splitlines()[-1]}")
        own.load([f"{PREFIX}/toy:gpu", f"{PREFIX}/sidecar:gpu"], dict(os.environ))
        yield own
    finally:
        own.close()
        for name in ("toy", "sidecar"):
            client.images.remove(f"{PREFIX}/{name}:gpu")


@pytest.fixture
def world(make_world: Callable[..., World], own_engine: OwnEngine) -> Iterator[World]:  # noqa: F811
    world = make_world()
    world.runner = "docker"
    world.environment |= own_engine.environment
    library = Path(world.environment["LD_LIBRARY_PATH"])
    library.chmod(0o755)  # the user of the containers looks into it
    world.environment |= {"FRAMEWATT_IMAGES": PREFIX, "FRAMEWATT_CONTAINER_MOUNTS": str(library)}
    if not own_engine.runs:
        own_engine.start()
    yield world
    if not own_engine.runs:
        own_engine.start()


def errors(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("error: ")]


def about_the_engine(line: str) -> bool:
    return re.search(r"engine (stopped answering|answers)|Docker engine", line) is not None


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_an_engine_that_dies_is_one_line_and_the_same_command_goes_on(
    world: World, own_engine: OwnEngine, how: str
) -> None:
    sweep = world.start()
    world.wait_for_cells(2)
    getattr(own_engine, how)()
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 2 and "Traceback" not in output, output
    (line,) = errors(output)
    assert about_the_engine(line) and "same command" in line, output

    code, output = world.run()  # and with no engine there is nothing to go on with
    assert code == 2, output
    (line,) = errors(output)
    assert "no Docker engine answers" in line
    kept = {path: path.stat().st_mtime_ns for path in world.cells()}
    assert len(kept) >= 2

    own_engine.start()
    code, output = world.run()
    assert code == 0 and "Continuing the unfinished run" in output, output
    (folder,) = world.folders()
    assert check_run(folder) == {"ok": CELLS}, "an engine that dies costs no cell"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert own_engine.containers() == []
    assert {path.lstat().st_uid for path in world.data.rglob("*")} == {os.getuid()}


class Striker:
    """Kills a worker, supervisor, sidecar, container or host, or kills or stops the engine, which comes back soon or late."""

    def __init__(self, own_engine: OwnEngine, chance: random.Random) -> None:
        self._engine = own_engine
        self._chance = chance

    def __call__(self, sweep: subprocess.Popen[str]) -> str:
        if not self._engine.runs:
            self._engine.start()
            return ""
        alive = self._engine.processes()
        victim = self._chance.choice(sorted([*alive, "host", "engine killed", "engine stopped"]))
        if victim.startswith("engine"):
            (self._engine.kill if victim == "engine killed" else self._engine.stop)()
            if self._chance.random() < 0.5:  # as a service manager would, before the sweep can have noticed
                self._engine.start()
            return victim
        try:
            os.kill(sweep.pid if victim == "host" else self._chance.choice(alive[victim]), signal.SIGKILL)
        except ProcessLookupError:
            return ""
        return victim

    def may_end(self, code: int, output: str) -> bool:
        """Before the next sweep there is an engine again."""
        if not self._engine.runs:
            self._engine.start()
        if code == 2:
            return len(errors(output)) == 1 and about_the_engine(errors(output)[0])
        return code in (0, -signal.SIGKILL)


@pytest.mark.timeout(1800)
def test_no_death_of_a_container_or_the_engine_loses_doubles_or_halves_a_cell(
    world: World, own_engine: OwnEngine
) -> None:
    print(f"FRAMEWATT_CHAOS_SEED={SEED}")
    chance = random.Random(SEED)
    striker = Striker(own_engine, chance)
    struck = disturbed_sweeps(world, moments(6), chance, striker, striker.may_end)
    print("struck:", dict(struck))
    statuses: Counter[str] = Counter()
    for folder in world.folders():
        statuses += check_run(folder, ("SIGKILL", "exit code 137"))
    # A host or an engine that dies costs nothing; a worker, supervisor or container one cell each, and the row says so.
    assert statuses["crashed"] <= struck["worker"] + struck["supervisor"] + struck["container"]
    assert set(statuses) <= {"ok", "crashed"}
    check_table(world, statuses["crashed"])
    assert own_engine.containers() == []
