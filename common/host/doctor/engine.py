"""Checks of the container engine: does one answer, can it hand over a GPU, does the driver serve the images' CUDA."""

from __future__ import annotations

import re
from typing import Any

from common.errors import UserError
from common.host.doctor.checks import Check, Figures, Judgement, Subject
from common.host.frameworks import environments
from common.host.frameworks.registry import load_images
from common.host.paths import IMAGES
from common.host.runners.containers import engine, images

_WHEEL = re.compile(r"nvidia_cuda_runtime(?:_cu\d+)?-(\d+\.\d+)")


def _read_engine(subject: Subject) -> Figures:
    try:
        client = engine.connect()
    except UserError as error:
        return {"answers": False, "why": str(error), "version": None}
    try:
        version = client.version()
        return {"answers": True, "why": None, "version": version.get("Version"), "api": version.get("ApiVersion")}
    finally:
        client.close()


def judge_engine(figures: Figures) -> Judgement:
    if not figures["answers"]:
        what, _, advice = figures["why"].partition(": ")
        return Judgement("note", f"{what}; runs use the local runner", advice or "start it, or use --runner local")
    return Judgement("ok", f"Docker {figures['version']} answers (API {figures['api']})")


def _read_gpu_runtime(subject: Subject) -> Figures:
    try:
        client = engine.connect()
    except UserError:
        return {"answers": False, "driver": None, "why": None}
    try:
        return {"answers": True, "driver": engine.gpu_driver(client), "why": None}
    except UserError as error:
        return {"answers": True, "driver": None, "why": str(error)}
    finally:
        client.close()


def judge_gpu_runtime(figures: Figures) -> Judgement:
    if not figures["answers"]:
        return Judgement("note", "no engine that could hand over a GPU; the local runner needs none")
    if figures["driver"] is None:
        what, _, advice = figures["why"].partition(": ")
        return Judgement("fail", what, f"{advice}; or use --runner local")
    names = {"nvidia": "NVIDIA's runtime", "cdi": "CDI devices"}
    return Judgement("ok", f"{names[figures['driver']]} hands GPUs to containers")


def _read_cuda(subject: Subject) -> Figures:
    """The newest CUDA that the driver serves, and the CUDA of every image and environment that is there."""
    return {
        "driver": subject.device.facts.get("driver"),
        "driver_cuda": subject.device.facts.get("cuda"),
        "images": _cuda_of_images(),
        "environments": _cuda_of_environments(),
    }


def _cuda_of_images() -> dict[str, str]:
    """Built GPU image -> CUDA version by the variable that NVIDIA's base images set; images without one are left out."""
    try:
        client = engine.connect()
    except UserError:
        return {}
    found = {}
    try:
        for image in load_images(IMAGES):
            try:
                built = images.inspect(client, image.name, "gpu")
            except UserError:
                continue
            version = cuda_of_environment(built.attrs.get("Config") or {})
            if version:
                found[image.name] = version
    finally:
        client.close()
    return found


def cuda_of_environment(config: dict[str, Any]) -> str | None:
    """CUDA_VERSION of an image's configuration, as major.minor."""
    for entry in config.get("Env") or []:
        name, _, value = str(entry).partition("=")
        match = re.match(r"(\d+\.\d+)", value)
        if name == "CUDA_VERSION" and match:
            return match[1]
    return None


def _cuda_of_environments() -> dict[str, str]:
    """Local GPU environment -> version of the CUDA runtime that its wheels brought."""
    found = {}
    for image in load_images(IMAGES):
        folder = environments.folder_of(image.name, "gpu")
        for path in folder.glob("lib/python*/site-packages/nvidia_cuda_runtime*.dist-info"):
            match = _WHEEL.match(path.name)
            if match:
                found[image.name] = match[1]
    return found


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def judge_cuda(figures: Figures) -> Judgement:
    """A driver runs every CUDA up to its own, and within its major version also newer minor ones, but not their PTX."""
    if not figures["driver_cuda"]:
        return Judgement(
            "fail", "the driver does not say which CUDA it serves", "reinstall the NVIDIA driver, or reboot"
        )
    served = _version(figures["driver_cuda"])
    shown = f"driver {figures['driver']} serves CUDA {figures['driver_cuda']}"
    needs = {f"image {name}": text for name, text in figures["images"].items()}
    needs |= {f"environment {name}": text for name, text in figures["environments"].items()}
    if not needs:
        return Judgement("ok", f"{shown}; no GPU image or environment is there yet to compare it with")
    shown += "; " + ", ".join(f"{name} {text}" for name, text in needs.items())
    too_new = [name for name, text in needs.items() if _version(text)[0] > served[0]]
    newer = [name for name, text in needs.items() if served < _version(text) and name not in too_new]
    if too_new:
        advice = f"{', '.join(too_new)} cannot run: install a newer driver, or invoke build --base with an older CUDA"
        return Judgement("fail", shown, advice)
    if newer:
        advice = f"{', '.join(newer)} is newer than the driver: kernels compiled while it runs (XLA, inductor) may fail"
        return Judgement("note", shown, advice)
    return Judgement("ok", shown)


CHECKS = (
    Check("engine", _read_engine, judge_engine),
    Check("GPU in containers", _read_gpu_runtime, judge_gpu_runtime, gpu_only=True),
    Check("driver and CUDA", _read_cuda, judge_cuda, gpu_only=True),
)
