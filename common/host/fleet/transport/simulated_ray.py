"""A Ray cluster whose hosts are simulated: `selfbench.py` measures everything between a host's messages and the table with it.

GPUs are logical: a few actors hold all of them (`num_gpus`), and each is asked for one stream of messages per GPU, such as
on_host.py would send for a run of no-op cells. The messages, Ray's streams of them, and the driver are the real ones.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray

from common.host.fleet.transport import simulated_host
from common.host.fleet.transport.connection import connection_from
from common.host.fleet.transport.ray_process import AHEAD, RayProcess, connect

#: actors that share the simulated GPUs
ACTORS = 2


class SimulatedHosts:
    async def stream(self, spec: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for message in simulated_host.messages(spec, ray.get_runtime_context().get_node_id()):
            yield message


class SimulatedRay(RayProcess):
    """Sends each task to an actor instead of to a host."""

    _actors: Sequence[Any] = ()
    _next = 0

    def submit(self, task: str, spec: Mapping[str, Any], **options: Any) -> Any:
        if not self._actors:
            found = [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
            gpus = sum(found)
            # An actor lives on one host, and must find room there.
            each = min([gpus // ACTORS, *(count for count in found if count)])
            actor = ray.remote(SimulatedHosts)
            self._actors = [
                actor.options(num_cpus=0, num_gpus=each, max_concurrency=max(1, gpus)).remote() for _ in range(ACTORS)
            ]
        self._next += 1
        method = self._actors[self._next % ACTORS].stream
        return method.options(num_returns="streaming", _generator_backpressure_num_objects=AHEAD).remote(dict(spec))


def main() -> None:
    connection = connection_from(int(sys.argv[2]))
    answer = connect(sys.argv[1])
    connection.send(answer)
    if answer[0] == "welcome":
        with suppress(EOFError, OSError):
            SimulatedRay(connection).run()
    ray.shutdown()


if __name__ == "__main__":
    main()
