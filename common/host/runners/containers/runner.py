"""Runs jobs in containers, with the sidecar in one of its own beside them."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from docker.errors import DockerException, NotFound
from docker.models.containers import Container
from docker.types import LogConfig, Mount

from common.errors import UserError
from common.harness.job_end import JobEnd
from common.host import models
from common.host.devices import Device
from common.host.frameworks import environments
from common.host.frameworks.registry import Image, Variant
from common.host.frameworks.versions import Pin, cache_name, cost_in_words, pin_of
from common.host.models import OnStep
from common.host.paths import DataFolder
from common.host.placement import cpu_list
from common.host.plan.jobs import PlannedJob
from common.host.runners.base import Context
from common.host.runners.containers import engine, images
from common.host.runners.containers.code_inside import is_current
from common.host.runners.containers.engine import explained
from common.host.runners.containers.leftovers import (
    name_of,
    owner_labels,
    remove_container,
    remove_named,
    remove_orphans,
)
from common.host.runners.containers.limits import Limits
from common.host.runners.containers.output import ContainerLog, lines, stop
from common.host.runners.containers.ownership import container_user, lent
from common.host.runners.containers.sidecar import IMAGE as SIDECAR
from common.host.runners.containers.sidecar import ContainerSidecar
from common.host.runners.events import OnEvent
from common.host.runners.exported import DOWNLOADS, exporters_folder, take_model
from common.host.runners.job_start import JobStart
from common.host.runners.jobs import (
    INSIDE_CACHE,
    INSIDE_MODELS,
    INSIDE_PICTURE,
    INSIDE_POWER,
    INSIDE_RUN,
    inside_container,
    planned_job,
)
from common.host.runners.lost_cells import write_cells_that_cannot_run, write_lost_cells, write_refused_cells
from common.host.runners.metering import intake_for, jobs_folder, metering_folder
from common.host.runners.sidecar import Sidecar
from common.host.runs.run import check_writable
from common.model_files import ModelFiles

#: the folders of all jobs, read-only: in them the sidecar sees when a window begins and ends
INSIDE_JOBS = "/data/jobs"
INSIDE_JOB = "/data/job.json"
#: a job's container is started again for the cells that are left at most this often
RESTARTS = 20
#: a container may take this long beyond the deadlines of its cells, which its supervisor keeps; then it has hung
BUDGET_SLACK_SECONDS = 60.0
#: of an exporter's errors the last so many lines are looked at
_ERROR_LINES = 200
#: Docker's own driver: the runner reads the events from the log, which not every driver gives back
LOG_CONFIG = LogConfig(type=LogConfig.types.JSON, config={"max-size": "64m", "max-file": "1"})

_ENVIRONMENT = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class DockerRunner:
    """See common/host/runners/base.py for what each method promises."""

    name = "docker"

    def __init__(self, by_name: Mapping[str, Image], limits: Limits, gpu_driver: str = "") -> None:
        self._images = by_name
        self._limits = limits.with_environment(os.environ)
        self._limits.check()
        self._forced_driver = gpu_driver
        self._client = engine.connect()
        with explained("the Docker engine does not describe itself"):
            self._user = container_user(self._client.info())
        self._driver = ""
        self._flavour, self._notebook = "cpu", False
        self._digests: dict[str, str] = {}
        #: image -> the file of its folder that its build installed, "" where it does not tell
        self._requirements: dict[str, str] = {}
        #: of the images of versions; pin -> digest, and pin -> why it could not be built
        self._pinned: dict[Pin, str] = {}
        self._failed: dict[Pin, str] = {}
        self._lock = threading.Lock()
        self._running: dict[str, Container] = {}
        self._interrupted = threading.Event()
        remove_orphans(self._client)

    # -- getting ready ---------------------------------------------------------------------------------------------

    def prepare(
        self, variants: list[Variant], flavour: str, on_step: OnStep, notebook: bool = False, pins: Sequence[Pin] = ()
    ) -> None:
        # One image for both front ends, so that nothing else differs between them.
        self._flavour, self._notebook = flavour, notebook
        if flavour == "gpu":
            self._driver = engine.gpu_driver(self._client, self._forced_driver)
        for name in dict.fromkeys([*(variant.image for variant in variants), SIDECAR]):
            image = images.inspect(self._client, name, flavour, notebook)
            self._digests[name] = str(image.id)
            self._requirements[name] = image.labels.get(images.REQUIREMENTS, "")
            if not is_current(self._client, image, name):
                raise UserError(
                    f"image {self._tag(name)} holds older code than this checkout: "
                    f"{images.build_command(name, flavour, notebook)}"
                )
        for index, pin in enumerate(pins):
            on_step(index, len(pins), f"image of {pin.requirement}")
            try:
                self._pinned[pin] = images.build_version(self._client, pin, flavour, notebook, lambda line: None)
            except UserError as error:
                self._failed[pin] = str(error)

    def cost_of(self, pins: Sequence[Pin], flavour: str) -> str:
        missing = [pin for pin in pins if images.find_version(self._client, pin, flavour, False) is None]
        sizes = [int(images.inspect(self._client, pin.image, flavour).attrs["Size"]) for pin in missing]
        return cost_in_words("image", missing, sizes)

    def ensure_model(
        self,
        name_or_path: str,
        data: DataFolder,
        export_options: models.ExportOptions,
        on_step: OnStep,
        wanted_forms: Sequence[str] = (),
    ) -> ModelFiles:
        wanted = models.source(name_or_path)
        model = models.existing_model(wanted, data.models, export_options)
        if model is None:
            arguments = models.exporter_arguments(wanted, Path(INSIDE_MODELS), export_options)
            volumes: dict[str, dict[str, str]] = {}
            if wanted.onnx is not None:
                for file in (wanted.onnx, *models.files_beside(wanted.onnx)):
                    volumes[str(file)] = {"bind": f"/input/{file.name}", "mode": "ro"}
                arguments[arguments.index("--onnx") + 1] = f"/input/{wanted.onnx.name}"
            elif wanted.file is not None:
                volumes[str(wanted.file)] = {"bind": f"/input/{wanted.file.name}", "mode": "ro"}
                function = wanted.module.rpartition(":")[2]
                arguments[arguments.index("--module") + 1] = f"/input/{wanted.file.name}:{function}"
            if export_options.inputs is not None:
                volumes[str(export_options.inputs.absolute())] = {"bind": "/input-values/inputs.npz", "mode": "ro"}
                arguments[arguments.index("--inputs") + 1] = "/input-values/inputs.npz"
            network = wanted.file is None and export_options.weights != "seeded"  # published weights are downloaded
            with exporters_folder(data.models, None) as folder:
                name = self._run_exporter(wanted, wanted.image, arguments, folder, data, on_step, volumes, network)
                if wanted.module:
                    arguments = models.second_half_arguments(wanted, Path(INSIDE_MODELS), name, export_options)
                    name = self._run_exporter(wanted, "onnxrt", arguments, folder, data, on_step, {}, False)
                model = take_model(folder, name, data.models, None)
        for image, names in models.forms_by_image(model, wanted_forms).items():
            arguments = models.form_arguments(model, Path(INSIDE_MODELS), names)
            model = self._export(wanted, image, arguments, data, on_step, {}, False, model)
        return model

    def _export(
        self,
        wanted: models.Source,
        image: str,
        arguments: list[str],
        data: DataFolder,
        on_step: OnStep,
        inputs: Mapping[str, dict[str, str]],
        network: bool,
        before: ModelFiles | None = None,
    ) -> ModelFiles:
        """Runs the exporter of an image; returns the model. inputs: volumes beside the one folder that it writes.

        before: the model that gets more forms.
        """
        with exporters_folder(data.models, before) as folder:
            name = self._run_exporter(wanted, image, arguments, folder, data, on_step, inputs, network)
            return take_model(folder, name, data.models, before)

    def _run_exporter(
        self,
        wanted: models.Source,
        image: str,
        arguments: list[str],
        written: Path,
        data: DataFolder,
        on_step: OnStep,
        inputs: Mapping[str, dict[str, str]],
        network: bool,
    ) -> str:
        """The folder of the model within the one that it writes, as the container says."""
        tag = images.inspect(self._client, image, self._flavour).tags[0]
        downloads = self.cache(data, image) / DOWNLOADS.lstrip(".")
        volumes = {
            str(written): {"bind": INSIDE_MODELS, "mode": "rw"},
            str(downloads): {"bind": f"{INSIDE_MODELS}/{DOWNLOADS}", "mode": "rw"},
            **inputs,
        }
        limits = self._limits.arguments()
        if network:
            limits["network_mode"] = "bridge"
        with lent(self._user, written, downloads), explained(f"{wanted.name} cannot be exported"):
            container = self._create(
                tag,
                f"framewatt-export-{uuid.uuid4().hex[:8]}",
                ["-m", *arguments],
                volumes=volumes,
                entrypoint=["python3"],
                **limits,
            )
            over_time, limit_s = threading.Event(), models.export_limit_s()

            def end_it() -> None:
                over_time.set()
                stop(container, 5)

            deadline = _timer(limit_s, end_it)
            try:
                container.start()
                deadline.start()
                folder = models.read_progress(lines(container), on_step)
                code = int(container.wait()["StatusCode"])
                errors = container.logs(stdout=False, stderr=True, tail=_ERROR_LINES).decode(errors="replace")
                container.reload()
                out_of_memory = bool(container.attrs["State"]["OOMKilled"])
            finally:
                deadline.cancel()
                remove_container(container)
        if over_time.is_set():
            raise UserError(models.over_time(wanted.name, limit_s))
        if out_of_memory:
            raise self._needs_more_memory(wanted.name)
        if code or folder is None:
            raise UserError(
                models.error_line(errors) or f"the export of {wanted.name} ended with exit code {code}: {errors[-300:]}"
            )
        return folder

    def _needs_more_memory(self, model: str) -> UserError:
        limit = f"--memory {self._limits.memory}" if self._limits.memory else "the memory of this machine"
        return UserError(f"the export of {model} needs more than {limit}; export once with more: invoke export")

    def describe_images(self) -> dict[str, Any]:
        found = {name: {"tag": self._tag(name), "digest": digest} for name, digest in self._digests.items()}
        of_versions = {
            cache_name(pin.image, pin): {"tag": self._tag(pin.image, pin), "digest": digest}
            for pin, digest in self._pinned.items()
        }
        return {**found, **of_versions}

    def _tag(self, image: str, pin: Pin | None = None) -> str:
        return images.tag_of(image, self._flavour, self._notebook, pin)

    def _pin(self, planned: PlannedJob) -> Pin | None:
        folder = self._images[planned.variant.image].folder
        return pin_of(planned.variant, planned.version, self._flavour, folder.parent)

    def _version(self, planned: PlannedJob) -> str:
        """Of the framework in the image of a job, "" where only the image knows: a current one holds what its lock pins.

        Of one for --version, what was asked for stands in the row's `version`, and the full version is known inside alone.
        """
        file, folder = self._requirements[planned.variant.image], self._images[planned.variant.image].folder
        return "" if planned.version or not file else environments.locked_version(planned.variant, folder / file)

    # -- jobs ------------------------------------------------------------------------------------------------------

    def run_job(self, context: Context, planned: PlannedJob, on_event: OnEvent) -> None:
        run = context.run.folder
        image, pin = self._images[planned.variant.image], self._pin(planned)
        device = context.devices[planned.device]
        job = replace(
            planned_job(
                planned,
                context.request,
                device,
                inside_container(image.name, context.model.root.name, picture=context.picture is not None),
                self.name,
            ),
            image_digest=self._pinned.get(pin, "") if pin else self._digests[image.name],
            framework_version=self._version(planned),
            seed=context.seed,
        )
        if pin in self._failed:
            write_cells_that_cannot_run(run, job, context.model, self._failed[pin], on_event, "unsupported")
            return
        write_refused_cells(run, job, planned, context.model, on_event)
        for _ in range(RESTARTS):
            left = [cell for cell in planned.cells if not (run / "cells" / cell.key).is_dir()]
            if not left or self._interrupted.is_set():
                return
            budget_s = BUDGET_SLACK_SECONDS + len(left) * context.request.settings.cell_timeout_s
            start = JobStart(run, planned.name, job, context.model, on_event, inside=INSIDE_RUN)
            with lent(self._user, start.staging.folder, self.cache(context.data, cache_name(image.name, pin))):
                end = self._run_container(context, planned, device, budget_s, start)
            start.end()
            if self._interrupted.is_set():
                return
            if start.error:
                # Said by an image: where the disk is what it complains of, this says so, and else it is the image's own.
                check_writable(run)
                write_cells_that_cannot_run(run, job, context.model, start.error, on_event)
                return
            # A container that is killed as a whole takes its supervisor along: the row is then written here.
            write_lost_cells(run, job, context.model, end, on_event)
        write_cells_that_cannot_run(run, job, context.model, f"its container ended {RESTARTS} times before", on_event)

    def _run_container(
        self, context: Context, planned: PlannedJob, device: Device, budget_s: float, start: JobStart
    ) -> JobEnd:
        run = context.run.folder
        name = name_of(run, planned.name)
        arguments = self._limits.arguments()
        arguments |= self._device_arguments(device)
        pin = self._pin(planned)
        cache = cache_name(planned.variant.image, pin)
        volumes = self._worker_volumes(start.staging.folder, context.data, context.model, cache)
        volumes[str(start.path)] = {"bind": INSIDE_JOB, "mode": "ro"}
        volumes[str(metering_folder(context, device))] = {"bind": INSIDE_POWER, "mode": "ro"}
        if context.picture is not None:
            volumes[str(context.picture)] = {"bind": INSIDE_PICTURE, "mode": "ro"}
        with explained(f"the container of {planned.name} cannot be run"):
            remove_named(self._client, name)
            container = self._create(
                self._tag(planned.variant.image, pin), name, [INSIDE_JOB], volumes=volumes, **self._cpus_of(context, device),
                **arguments,
            )  # fmt: skip
            over_budget = threading.Event()

            def end_it() -> None:
                over_budget.set()
                stop(container, 5)

            deadline = _timer(budget_s, end_it)
            try:
                with self._lock:
                    self._running[name] = container
                container.start()
                deadline.start()
                with ContainerLog(run / "logs" / f"{planned.name}.container.log") as log:
                    for line in lines(container):
                        if not start.handle(line):
                            log.write(line)
                container.wait()
                container.reload()
                state = container.attrs["State"]
                return JobEnd(int(state["ExitCode"]), bool(state["OOMKilled"]), over_budget.is_set())
            except NotFound:
                # Removed from outside (docker rm -f, or the engine was restarted and pruned).
                return JobEnd(137)
            finally:
                deadline.cancel()
                with self._lock:
                    self._running.pop(name, None)
                remove_container(container)

    def _cpus_of(self, context: Context, device: Device) -> dict[str, Any]:
        """Where the worker's container runs, and which node its memory comes from."""
        share = context.placement.workers.get(device.name)
        if share is None:
            return {"cpuset_cpus": self._limits.worker_cpus()}
        node = None if share.memory_node is None else str(share.memory_node)
        return {"cpuset_cpus": cpu_list(share.cpus), "cpuset_mems": node}

    # -- sidecar ---------------------------------------------------------------------------------------------------

    @contextmanager
    def sidecar(self, context: Context, device: Device) -> Iterator[Sidecar]:
        run = context.run.folder
        intake = intake_for(context, device)
        jobs = jobs_folder(run)
        command = ["--out", f"{INSIDE_RUN}/{intake.file.name}", "--gpus", device.uuid or "none", "--edges", INSIDE_JOBS]
        if device is not next(iter(context.devices.values())):
            command.append("--no-rapl")  # the first one's sidecar reads it
        arguments = self._limits.arguments()
        arguments |= self._device_arguments(device)

        name = name_of(context.run.folder, f"sidecar-{device.name}")

        def create() -> Container:
            remove_named(self._client, name)
            return self._create(
                self._tag(SIDECAR), name, command,
                volumes={
                    str(intake.folder): {"bind": INSIDE_RUN, "mode": "rw"},
                    str(jobs): {"bind": INSIDE_JOBS, "mode": "ro"},
                },
                cpuset_cpus=self._limits.sidecar_cpus() or cpu_list(context.placement.sidecars) or None, **arguments,
            )  # fmt: skip

        sidecar = ContainerSidecar(device, intake, run / "logs" / f"sidecar-{device.name}.log", create)
        with lent(self._user, intake.folder):
            try:
                sidecar.start()
                yield sidecar
            finally:
                sidecar.end(context.run.description)

    def interrupt(self) -> None:
        self._interrupted.set()
        with self._lock:
            running = list(self._running.values())
        for container in running:
            # SIGINT first, so that the supervisor journals what it drops.
            with suppress(DockerException):
                container.kill(signal="SIGINT")
            _timer(10, partial(stop, container, 2)).start()

    def conversation(
        self, image: str, name: str, command: list[str], folder: Path, data: DataFolder, model: ModelFiles,
        environment: Mapping[str, str],
    ) -> Container:  # fmt: skip
        """A worker's container, held like any other, that runs `python3 COMMAND` and keeps its standard input open.

        folder is the one that it writes; it and cache() are lent to its user by the caller. It is not started, and the
        caller removes it.
        """
        with explained(f"the container {name} cannot be made"):
            return self._create(
                images.tag_of(image, self._flavour), name, command, entrypoint=["python3"], stdin_open=True,
                environment=dict(environment), cpuset_cpus=self._limits.worker_cpus(),
                volumes=self._worker_volumes(folder, data, model, image), **self._limits.arguments(),
            )  # fmt: skip

    @staticmethod
    def cache(data: DataFolder, image: str) -> Path:
        """The cache folder of an image; images of another prefix are other images."""
        return data.framework_cache(image, images.prefix())

    def _worker_volumes(
        self, folder: Path, data: DataFolder, model: ModelFiles, image: str
    ) -> dict[str, dict[str, str]]:
        """The folder that it writes, its image's own cache, and the one model, read-only."""
        return {
            str(folder): {"bind": INSIDE_RUN, "mode": "rw"},
            str(model.root): {"bind": f"{INSIDE_MODELS}/{model.root.name}", "mode": "ro"},
            str(self.cache(data, image)): {"bind": INSIDE_CACHE, "mode": "rw"},
        }

    def _device_arguments(self, device: Device) -> dict[str, Any]:
        """What makes this device, and no other, visible in a container."""
        if device.index is None:
            return {}
        return {"device_requests": [engine.gpu_request(self._driver, device.index, device.uuid)]}

    def _create(self, image: str, name: str, command: list[str], **arguments: Any) -> Container:
        uid, gid = self._user
        volumes = {**arguments.pop("volumes", {}), **self._limits.volumes()}
        return self._client.containers.create(
            image, command, name=name, user=f"{uid}:{gid}", detach=True, mounts=_mounts(volumes),
            labels=owner_labels(), log_config=LOG_CONFIG,
            environment=_ENVIRONMENT | arguments.pop("environment", {}), **arguments,
        )  # fmt: skip


def _mounts(volumes: Mapping[str, Mapping[str, str]]) -> list[Mount]:
    """For the engine: its other notation, host:inside:mode in one text, has no room for a path that holds a colon."""
    return [
        Mount(volume["bind"], source, type="bind", read_only=volume["mode"] == "ro")
        for source, volume in volumes.items()
    ]


def _timer(seconds: float, function: Callable[[], None]) -> threading.Timer:
    """Not started yet; it does not keep the program alive."""
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    return timer
