"""A container that the kernel ends as a whole: what the engine says of it, and what is left on disk for who cannot ask it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from common.harness import kill_watch
from common.harness.job_end import JobEnd
from common.host.paths import ROOT
from common.host.runners.containers import engine
from tests.engine.conftest import BASE, PREFIX

#: A child that memory ends first, as a worker would be; then the rest of the container, but not at once: with control groups of
#: version 1 the counts are looked at ten times a second, and an end of all within less leaves nothing.
SCRIPT = """
import subprocess, sys, time
sys.path.insert(0, "/source")
from pathlib import Path
from common.harness import kill_watch
GREEDY = "held = []\\nwhile True: held.append(b'a' * (1 << 20))"
assert kill_watch.watch(Path("/told/killed"))
assert subprocess.call([sys.executable, "-c", GREEDY]) == -9
time.sleep(1.0)
exec(GREEDY)
"""


def test_a_container_that_memory_ended_is_oom_for_the_engine_and_by_what_it_left(tmp_path: Path) -> None:
    began = time.monotonic_ns()
    tmp_path.chmod(0o777)
    container = engine.connect().containers.run(
        BASE, ["-c", SCRIPT], entrypoint=["python3"], name=f"{PREFIX}-killed-{os.getpid()}", labels={engine.LABEL: "1"}, detach=True,
        mem_limit="80m", memswap_limit="80m", read_only=True, network_mode="none", user="1000:1000",
        volumes={str(ROOT / "common"): {"bind": "/source/common", "mode": "ro"}, str(tmp_path): {"bind": "/told", "mode": "rw"}},
    )  # fmt: skip
    try:
        container.wait(timeout=60)
        container.reload()
        state = container.attrs["State"]
    finally:
        container.remove(force=True)
    by_engine = JobEnd(int(state["ExitCode"]), bool(state["OOMKilled"])).reason()
    struck_ns = kill_watch.struck_ns((tmp_path / "killed").read_bytes())
    assert began < struck_ns < time.monotonic_ns()
    by_file = JobEnd(None, oom_killed=True).reason()
    assert by_engine[0] == by_file[0] == "oom"
