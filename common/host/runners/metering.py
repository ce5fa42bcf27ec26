"""Where the sidecar of a device writes within a run, and what takes its readings from there."""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError
from common.host.devices import Device
from common.host.runners.base import Context
from common.host.runners.power_intake import FOLDER, PowerIntake
from common.host.runners.staging import FOLDER as STAGING


def metering_folder(context: Context, device: Device) -> Path:
    """The folder that the device's sidecar writes."""
    name = "power" if len(context.devices) == 1 else f"power-{device.name}"
    return context.run.folder / FOLDER / name


def jobs_folder(run: Path) -> Path:
    """Where the jobs' staging folders lie; the sidecar looks there when a window begins. Raises UserError when it cannot be made."""
    return _made(run / STAGING)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {(error.strerror or str(error)).lower()}") from error
    return folder


def intake_for(context: Context, device: Device) -> PowerIntake:
    """Of a new folder, for a sidecar that begins now. Raises UserError when it cannot be made."""
    folder = _made(metering_folder(context, device))
    return PowerIntake(folder, context.run.folder / f"{folder.name}.csv")
