"""Which runner a run gets: containers where an engine answers, else processes of this machine."""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import UserError, unknown
from common.host.cli import parsing as opt
from common.host.frameworks.registry import Image
from common.host.paths import DataFolder
from common.host.plan.options import Options
from common.host.runners.base import Runner
from common.host.runs.run import find_unfinished, typed_command


def make_runner(options: Options, images: Mapping[str, Image]) -> Runner:
    """The runner that `--runner` names; without it containers where an engine answers and no interpreter is given."""
    # Imported where they are needed: a GPU host with little installed can still make local runs.
    name = options.runner or ("local" if options.python or not _engine_answers() else "docker")
    if name == "local":
        from common.host.runners.local import LocalRunner

        return LocalRunner(images, options.python or None)
    if name == "docker":
        from common.host.runners.containers.limits import Limits
        from common.host.runners.containers.runner import DockerRunner

        if options.python:
            raise UserError(
                "--python is for the local runner: a container brings its own interpreter; leave one of them out"
            )
        limits = Limits(options.cpus, options.memory, opt.whole("--pids", options.pids), options.shm, options.tmp)
        return DockerRunner(images, limits, options.gpu_driver)
    raise unknown("runner", name, ["local", "docker"])


def refuse_to_change_runner(data: DataFolder) -> None:
    """The same command continues a run; without an engine it would silently begin another one, of processes."""
    begun = find_unfinished(data.results, command=typed_command(), runner="docker")
    if begun is not None:
        raise UserError(
            f"run {begun.name} of this command was begun in containers, and no Docker engine answers now: start it (sudo "
            "systemctl start docker), or add --runner local for a run of its own"
        )


def _engine_answers() -> bool:
    from common.host.runners.containers import engine

    return engine.answers()
