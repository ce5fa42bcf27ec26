"""What a runner does: carry out jobs on a device, with a sidecar beside them. `local` starts processes, `docker` containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common.host.devices import Device
from common.host.frameworks.registry import Image, Variant
from common.host.frameworks.versions import Pin
from common.host.models import ExportOptions, OnStep
from common.host.paths import DataFolder
from common.host.placement import NOWHERE, Placement
from common.host.plan.jobs import PlannedJob
from common.host.plan.request import Request
from common.host.runners.events import OnEvent
from common.host.runners.sidecar import Sidecar
from common.host.runs.run import Run
from common.model_files import ModelFiles


@dataclass(frozen=True)
class Context:
    """All that the jobs of a run have in common."""

    run: Run
    request: Request
    model: ModelFiles
    data: DataFolder
    images: Mapping[str, Image]
    devices: Mapping[str, Device]
    #: prepared picture (.npy) inside the run's folder
    picture: Path | None
    seed: int
    placement: Placement = NOWHERE


class RunnerFacts(Protocol):
    """What run.json says of a runner."""

    @property
    def name(self) -> str: ...

    def describe_images(self) -> dict[str, Any]:
        """Image name -> what is known of the environment that runs it."""


class Runner(Protocol):
    name: str

    def prepare(
        self, variants: list[Variant], flavour: str, on_step: OnStep, notebook: bool = False, pins: Sequence[Pin] = ()
    ) -> None:
        """Makes everything ready that jobs of these variants need. Raises UserError with what to do.

        notebook: some of them will run in a Jupyter kernel. pins: versions of their frameworks beside those of the locks. One
        that cannot be made does not raise: the cells of its jobs become rows that say why.
        """

    def cost_of(self, pins: Sequence[Pin], flavour: str) -> str:
        """What these versions will take of the disk, in a sentence; "" when all are there."""

    def ensure_model(
        self,
        name_or_path: str,
        data: DataFolder,
        export_options: ExportOptions,
        on_step: OnStep,
        wanted_forms: Sequence[str] = (),
    ) -> ModelFiles:
        """The exported model, made now if it is missing, in the wanted forms too where they can be made of it."""

    def describe_images(self) -> dict[str, Any]:
        """Image name -> what is known of the environment that runs it, for run.json."""

    def run_job(self, context: Context, planned: PlannedJob, on_event: OnEvent) -> None:
        """Runs the job to its end, passing events on as they come. Raises UserError when it cannot be started."""

    def sidecar(self, context: Context, device: Device) -> AbstractContextManager[Sidecar]:
        """Records power while the block runs. Never raises for a sidecar that fails: its state says so."""

    def interrupt(self) -> None:
        """Makes every running job end soon; its running cell is discarded."""
