"""`python -m common.host.fleet.transport.ray_process ADDRESS DESCRIPTOR`: the one process that knows Ray.

Started and explained by connection.py.

Takes commands (tuples, see Transport) and gives lists of news, both through the descriptor. Tasks are generators of on_host.py:
each message is an object of Ray's, small ones inside the answer, large ones fetched from the host's object store.
Ray never tries a task again (max_retries=0): which cell is measured anew, and where, is decided by schedule.py.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from common.host.fleet.transport.cluster import Node
from common.host.fleet.transport.connection import Arrived, Changed, News, Over, connection_from
from common.host.fleet.worker import on_host, shipper

#: the cluster is looked at this often, in s
LOOK_SECONDS = 1.0
#: the longest wait for something to happen, in s
WAIT_SECONDS = 0.2
#: lists of news that may wait for being read
UNSENT = 4
#: messages that a task may be ahead of us: bounds what a host's object store holds
AHEAD = 16
PREFIX = "accelerator_type:"


class RayProcess:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._streams: dict[str, Any] = {}
        self._inputs: Any = None
        self._nodes: tuple[Node, ...] = ()
        self._looked = 0.0
        self._outgoing: queue.SimpleQueue[list[News]] = queue.SimpleQueue()
        for module in (on_host, shipper):
            cloudpickle.register_pickle_by_value(module)
        self._remote = ray.remote(on_host.on_host)

    def run(self) -> None:
        """Until the other end is closed."""
        # News are sent by a thread: this one must go on reading commands, or both ends would wait for each other.
        threading.Thread(target=self._send, daemon=True).start()
        while True:
            while self._connection.poll(0 if self._streams else WAIT_SECONDS):
                name, *arguments = self._connection.recv()
                getattr(self, f"do_{name}")(*arguments)
            if self._outgoing.qsize() >= UNSENT:
                time.sleep(WAIT_SECONDS / 10)  # nobody reads: what comes stays on the hosts meanwhile
                continue
            news = self.look() + self.collect()
            if news:
                self._outgoing.put(news)

    def _send(self) -> None:
        with suppress(OSError):
            while True:
                self._connection.send(self._outgoing.get())

    # -- commands ------------------------------------------------------------------------------------------------------

    def do_share(self, inputs: Mapping[str, tuple[str, bytes]]) -> None:
        self._inputs = ray.put(inputs) if inputs else None

    def do_check(self, attempt: str, node_id: str, spec: Mapping[str, Any]) -> None:
        self._streams[attempt] = self.submit("check", spec, **on_node(node_id))

    def do_start(self, attempt: str, accelerator: str, avoid: Sequence[str], spec: Mapping[str, Any]) -> None:
        # SPREAD: Ray would else fill one host after the other, and a host's GPUs share its power and its heat.
        options: dict[str, Any] = {"num_gpus": 1, "accelerator_type": accelerator, "scheduling_strategy": "SPREAD"}
        if avoid:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoid)})"}
        self._streams[attempt] = self.submit("run", spec, **options)

    def do_stop(self, by_node: Mapping[str, Sequence[str]]) -> None:
        for node_id, attempts in by_node.items():
            self._streams[f"stop {node_id}"] = self.submit("stop", {"attempts": list(attempts)}, **on_node(node_id))

    def do_cancel(self, attempt: str) -> None:
        stream = self._streams.pop(attempt, None)
        if stream is not None:
            with suppress(Exception):
                ray.cancel(stream, force=False)

    def submit(self, task: str, spec: Mapping[str, Any], **options: Any) -> Any:
        """Starts a task; returns the stream of its messages."""
        chosen = {"num_cpus": 0, "max_retries": 0, "num_returns": "streaming", **options}
        return self._remote.options(**chosen, _generator_backpressure_num_objects=AHEAD).remote(
            task, dict(spec), self._inputs
        )

    # -- news ----------------------------------------------------------------------------------------------------------

    def look(self) -> list[News]:
        """The cluster, where it has changed."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return []
        self._looked = time.monotonic()
        nodes = tuple(nodes_of(ray.nodes()))
        if nodes == self._nodes:
            return []
        self._nodes = nodes
        return [Changed(nodes)]

    def collect(self) -> list[News]:
        """One message of every task that has one."""
        if not self._streams:
            return []
        names = {id(stream): attempt for attempt, stream in self._streams.items()}
        streams = list(self._streams.values())
        ready, waiting = ray.wait(streams, num_returns=1, timeout=WAIT_SECONDS)
        if ready and waiting:
            more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            ready += more
        found: list[News] = []
        for stream in ready:
            attempt = names[id(stream)]
            try:
                found.append(Arrived(attempt, ray.get(next(stream)), time.time()))
            except StopIteration:
                found.append(Over(attempt))
                del self._streams[attempt]
            except Exception as error:  # a host that is gone, a task that died: Ray has many kinds
                found.append(Over(attempt, reason_of(error)))
                del self._streams[attempt]
        return [one for one in found if not one.attempt.startswith("stop ")]  # type: ignore[union-attr]


def on_node(node_id: str) -> dict[str, Any]:
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}


def nodes_of(described: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Ray's description of hosts; those of equal name are told apart by their id."""
    names = {
        node["NodeID"]: node["NodeName"]
        if node.get("NodeName") not in (None, "", node["NodeManagerAddress"])
        else node["NodeManagerHostname"]
        for node in described
    }
    counts = Counter(names[node["NodeID"]] for node in described if node["Alive"])
    found = []
    for node in described:
        resources = node.get("Resources") or {}
        name = names[node["NodeID"]]
        found.append(
            Node(
                id=node["NodeID"],
                name=f"{name}-{node['NodeID'][:4]}" if counts[name] > 1 else name,
                address=node["NodeManagerAddress"],
                gpus=int(resources.get("GPU", 0)),
                accelerators=tuple(sorted(key.removeprefix(PREFIX) for key in resources if key.startswith(PREFIX))),
                alive=bool(node["Alive"]),
            )
        )
    return found


def reason_of(error: Exception) -> str:
    """One line of what Ray says; its own stack and addresses left out."""
    kinds = {
        "NodeDiedError": "the host was lost",
        "ObjectLostError": "the host was lost with what it had not sent",
        "OwnerDiedError": "the host was lost with what it had not sent",
        "WorkerCrashedError": "Ray's worker died",
        "OutOfMemoryError": "Ray ended the task because the host ran out of memory",
        "TaskCancelledError": "it was cancelled",
    }
    for kind in type(error).__mro__:
        if kind.__name__ in kinds:
            return kinds[kind.__name__]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no words'}"[:300]


def connect(address: str) -> tuple[str, str]:
    """("welcome", version of Ray), or ("refused", one line)."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="framewatt")
    except Exception as error:
        return "refused", " ".join(str(error).split())[:500]
    return "welcome", ray.__version__


def main() -> None:
    address, descriptor = sys.argv[1], int(sys.argv[2])
    os.set_inheritable(descriptor, False)
    connection = connection_from(descriptor)
    answer = connect(address)
    with suppress(OSError):
        connection.send(answer)
    if answer[0] == "welcome":
        with suppress(EOFError, OSError):
            RayProcess(connection).run()
    ray.shutdown()


if __name__ == "__main__":
    main()
