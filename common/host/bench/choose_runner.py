"""Which runner a run gets: containers where an engine answers and has the images, else processes of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from common.errors import UserError, unknown
from common.host.cli import parsing as opt
from common.host.frameworks.registry import Image
from common.host.paths import DataFolder
from common.host.plan.options import CONTAINER, Options
from common.host.runners.base import Runner
from common.host.runs.run import find_unfinished, typed_command


def make_runner(options: Options, images: Mapping[str, Image]) -> Runner:
    """The runner that `--runner` names; without it containers where an engine answers and no interpreter is given."""
    # Imported where they are needed: a GPU host with little installed can still make local runs.
    name = options.runner or ("local" if options.python or not _engine_answers() else "docker")
    if name == "local":
        from common.host.runners.local import LocalRunner

        if given := _of_containers(options):
            raise UserError(
                f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} for containers, and processes of this machine measure "
                "here; leave it out, or give --runner docker"
            )
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


def instead_of_containers(options: Options, images: Sequence[str], flavour: str) -> str:
    """Why processes of this machine take the place of containers that nobody asked for, "" where they do not.

    On the CPU alone: there an environment is made in a minute or two, for a GPU it would be gigabytes. images: their names.
    """
    given = options.runner or options.cpus or _of_containers(options)
    if given or options.python or flavour != "cpu" or not _engine_answers():
        return ""
    missing = _not_built(images, flavour, options.frontend)
    if not missing:
        return ""
    return f"no image of {', '.join(missing)} is built (invoke build --framework {','.join(missing)} --cpu)"


def _of_containers(options: Options) -> list[str]:
    """The options typed that only a container can heed. --cpus is none of them: it also says where workers of GPUs may run."""
    return [
        f"--{one.name.replace('_', '-')}"
        for one in fields(Options)
        if one.metadata.get("group") == CONTAINER and one.name != "cpus" and getattr(options, one.name) != one.default
    ]


def refuse_to_change_runner(data: DataFolder, why: str = "") -> None:
    """The same command continues a run; without an engine it would silently begin another one, of processes.

    why: there are no containers, where that is not for want of an engine.
    """
    begun = find_unfinished(data.results, command=typed_command(), runner="docker")
    if begun is not None:
        raise UserError(
            f"run {begun.name} of this command was begun in containers, and "
            f"{why or 'no Docker engine answers now: start it (sudo systemctl start docker)'}, or add --runner local for a run of "
            "its own"
        )


def _engine_answers() -> bool:
    from common.host.runners.containers import engine

    return engine.answers()


def _not_built(names: Sequence[str], flavour: str, frontend: str) -> list[str]:
    from common.host.runners.containers import engine, images
    from common.host.runners.containers.sidecar import IMAGE

    client = engine.connect()
    wanted = dict.fromkeys([*names, IMAGE])
    return [name for name in wanted if not images.is_built(client, name, flavour, "notebook" in frontend)]
