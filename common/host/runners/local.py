"""Runs jobs as processes of this machine, each framework in the interpreter of its own environment (or in `--python`'s)."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.harness.job_end import LOST_NOTHING, JobEnd
from common.host import models
from common.host.children import dying_with_parent
from common.host.devices import Device
from common.host.frameworks import environments
from common.host.frameworks.registry import Image, Variant
from common.host.frameworks.versions import Pin, cache_name, cost_in_words, pin_of
from common.host.models import OnStep
from common.host.paths import ENVIRONMENTS, ROOT, DataFolder
from common.host.plan.jobs import PlannedJob
from common.host.runners.base import Context
from common.host.runners.events import OnEvent
from common.host.runners.job_start import JobStart
from common.host.runners.jobs import Places, planned_job
from common.host.runners.local_sidecar import LocalSidecar
from common.host.runners.lost_cells import write_cells_that_cannot_run, write_lost_cells, write_refused_cells
from common.host.runners.metering import intake_for, jobs_folder, metering_folder
from common.host.runners.sidecar import Sidecar
from common.model_files import ModelFiles
from common.models import KERAS_HUB


def interpreter_has(python: Path, module: str) -> bool:
    """Whether that interpreter can find the module (it is not imported: frameworks take seconds)."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


class LocalRunner:
    """See common/host/runners/base.py for what each method promises."""

    name = "local"

    def __init__(self, images: Mapping[str, Image], python: str | None) -> None:
        self._images = images
        self._python = self._resolve(python)
        self._flavour = "cpu"
        self._prepared: set[str] = set()
        self._pins: Sequence[Pin] = ()
        #: pin -> why its environment could not be made
        self._failed: dict[Pin, str] = {}
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._interrupted = threading.Event()

    @staticmethod
    def _resolve(python: str | None) -> Path | None:
        if not python:
            return None
        path = Path(python).expanduser()
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise UserError(
                f"--python {python} is not an executable file; give the path of an interpreter that has the framework"
            )
        return path.absolute()  # not resolved: a virtual environment's python is a link

    def interpreter(self, image: str, pin: Pin | None = None) -> Path:
        return self._python or environments.interpreter(image, self._flavour, pin)

    def prepare(
        self, variants: list[Variant], flavour: str, on_step: OnStep, notebook: bool = False, pins: Sequence[Pin] = ()
    ) -> None:
        self._flavour = flavour
        self._prepared = {variant.image for variant in variants}
        self._pins = pins
        names = list(dict.fromkeys(variant.image for variant in variants))
        if self._python:
            for name in names:
                module = self._images[name].imports
                if module and not interpreter_has(self._python, module):
                    raise UserError(
                        f"{self._python} has no module {module}, which images/{name} needs; leave --python out, or name another"
                    )
            if notebook and not interpreter_has(self._python, "ipykernel"):
                raise UserError(
                    f"{self._python} has no module ipykernel, which --frontend notebook needs: {self._python} -m pip install "
                    f"-r {environments.NOTEBOOK.relative_to(ROOT)}"
                )
            return
        missing = [name for name in names if not environments.is_ready(name, flavour, notebook)]
        ready: list[str] = []
        failures = environments.ensure_all(
            missing,
            flavour,
            lambda name, line: on_step(len(ready), len(missing), _short(name, line)),
            ready.append,
            notebook,
        )
        for error in failures.values():
            raise error
        if missing:
            on_step(len(missing), len(missing), "environments ready")
        for index, pin in enumerate(pins):
            try:
                environments.ensure(
                    pin.image,
                    flavour,
                    lambda line, done=index, name=pin.requirement: on_step(done, len(pins), _short(name, line)),  # type: ignore[misc]
                    notebook,
                    pin,
                )
            except UserError as error:
                self._failed[pin] = str(error)

    def cost_of(self, pins: Sequence[Pin], flavour: str) -> str:
        missing = [pin for pin in pins if not environments.is_ready(pin.image, flavour, pin=pin)]
        sizes = [environments.size_of(environments.folder_of(pin.image, flavour)) for pin in missing]
        return cost_in_words("environment", missing, sizes, ENVIRONMENTS)

    def ensure_model(
        self,
        name_or_path: str,
        data: DataFolder,
        export_options: models.ExportOptions,
        on_step: OnStep,
        wanted_forms: Sequence[str] = (),
    ) -> ModelFiles:
        wanted = models.source(name_or_path)

        def python_for(image: str) -> Path:
            # Export always has its own environment: an interpreter given for one framework need not have TensorFlow.
            def on_line(line: str) -> None:
                on_step(0, None, _short(image, line))

            if image == environments.TIMM_IMAGE:
                return environments.ensure_extra(image, "cpu", environments.TIMM, on_line)
            if wanted.needs:
                return environments.ensure_extra(image, "cpu", environments.KERAS_HUB, on_line)
            return environments.ensure(image, "cpu", on_line)

        model = models.ensure_model(
            name_or_path,
            data.models,
            python_for,
            lambda step, steps, name: on_step(step, steps, name),
            export_options,
            wanted_forms,
        )
        if self._python is None:
            self._add_extras(wanted, model, on_step)
        return model

    def _add_extras(self, wanted: models.Source, model: ModelFiles, on_step: OnStep) -> None:
        """What the model's layers are of, to the environments that will read them."""
        extras = [(environments.TIMM_IMAGE, environments.TIMM)] if wanted.needs_timm else []
        if KERAS_HUB in model.needs:
            extras += [(image, environments.KERAS_HUB) for image in sorted(self._prepared)]
        pinned = [pin for pin in self._pins if pin not in self._failed]
        for image, extra in extras:
            for pin in [None] * (image in self._prepared) + [pin for pin in pinned if pin.image == image]:
                environments.ensure_extra(
                    image,
                    self._flavour,
                    extra,
                    lambda line, image=image: on_step(0, None, _short(image, line)),  # type: ignore[misc]
                    pin,
                )

    def describe_images(self) -> dict[str, Any]:
        return {name: {"python": str(self._python or f".envs/{name}-{self._flavour}")} for name in self._images}

    def run_job(self, context: Context, planned: PlannedJob, on_event: OnEvent) -> None:
        image = self._images[planned.variant.image]
        device = context.devices[planned.device]
        run = context.run.folder
        pin = pin_of(planned.variant, planned.version, self._flavour, image.folder.parent)
        places = Places(
            run_dir="",
            model_dir=str(context.model.root),
            adapter=str(image.adapter),
            cache_dir=str(context.data.framework_cache(cache_name(image.name, pin))),
            power_dir=str(metering_folder(context, device)),
            picture=str(context.picture) if context.picture else None,
        )
        job = replace(planned_job(planned, context.request, device, places, self.name), seed=context.seed)
        if pin in self._failed:
            write_cells_that_cannot_run(run, job, context.model, self._failed[pin], on_event, "unsupported")
            return
        python = self.interpreter(image.name, pin)
        job = replace(job, framework_version=environments.installed_version(python, planned.variant))
        write_refused_cells(run, job, planned, context.model, on_event)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
            "PYTHONUNBUFFERED": "1",
            # The chosen GPU is the only one that the process sees; on the CPU it sees none.
            "CUDA_VISIBLE_DEVICES": device.uuid if device.kind == "gpu" else "",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }
        command = [str(python), "-m", "common.harness"]
        # A supervisor that is killed costs the cell that was running; each turn stores one cell more at the least.
        for _ in planned.cells:
            if self._interrupted.is_set() or all((run / "cells" / cell.key).is_dir() for cell in planned.cells):
                return
            start = JobStart(run, planned.name, job, context.model, on_event)
            cpus = context.placement.worker_cpus(device.name)
            end = self._run_supervisor([*command, str(start.path)], environment, start, cpus)
            start.end()
            if start.error:
                on_event({"event": "error", "message": start.error})
            if start.error or end.exit_code in LOST_NOTHING or self._interrupted.is_set():
                return
            write_lost_cells(run, job, context.model, end, on_event)

    def _run_supervisor(
        self, command: list[str], environment: Mapping[str, str], start: JobStart, cpus: Sequence[int]
    ) -> JobEnd:
        """Runs a supervisor to its end, however that comes about. Raises UserError when it cannot be started."""
        try:
            # Its own session: Ctrl-C reaches it through interrupt() alone. It ends when nobody reads its events any
            # more, so also when this process is killed.
            process = subprocess.Popen(
                dying_with_parent(command, signal.SIGTERM, cpus),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",  # a library may print anything beside the events
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"{command[0]} cannot be started: {error.strerror}") from error
        with self._lock:
            self._running.add(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                start.handle(line)
            return JobEnd(process.wait(), what="supervisor")
        finally:
            with self._lock:
                self._running.discard(process)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()

    @contextmanager
    def sidecar(self, context: Context, device: Device) -> Iterator[Sidecar]:
        run = context.run.folder
        # The first one's sidecar reads the CPU's energy.
        options = ["--edges", str(jobs_folder(run))]
        options += [] if device is next(iter(context.devices.values())) else ["--no-rapl"]
        intake = intake_for(context, device)
        log = run / "logs" / f"sidecar-{device.name}.log"
        sidecar = LocalSidecar(device, intake, log, options, context.placement.sidecars)
        try:
            sidecar.start()
            yield sidecar
        finally:
            sidecar.end(context.run.description)

    def interrupt(self) -> None:
        self._interrupted.set()
        with self._lock:
            for process in self._running:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)


def _short(image: str, line: str) -> str:
    """pip's line, cut down to what a person wants to know."""
    words = line.split()
    if words[:1] in (["Collecting"], ["Downloading"], ["Installing"], ["Processing"]) and len(words) > 1:
        return f"environment of {image}: {words[0].lower()} {words[1].rsplit('/', 1)[-1]}"
    return f"environment of {image}"
