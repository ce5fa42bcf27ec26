"""What `invoke bench`, `sweep` and their relatives take: each option once, with its default, unit and effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Options:
    """As typed. Empty text, 0 where zero makes no sense, and -1 where it does mean the default that the help names."""

    framework: str = _option(
        "",
        "framework variants to run, comma list (invoke frameworks lists them); default: all that the device can run",
    )
    device: str = _option(
        "",
        "cpu, or gpu with --gpu; default: GPU 0 where there is one, else the CPU",
    )
    gpu: str = _option(
        "",
        "GPU by index or UUID, comma list or 'all': several run at once, each alone on its device; default: 0",
    )
    batch_sizes: str = _option(
        "",
        "images (or other samples) in one inference, comma list; default: 8,16,32,64,128,256,512 as in the study (--quick: 1,8,32)",
    )
    precision: str = _option(
        "fp32",
        "fp32 (TF32 off), tf32, fp16, bf16, int8, int8-dynamic, comma list, or 'all' that the variants have; default: fp32",
    )
    io: str = _option(
        "host",
        "host: time the copies to and from the device too; device: input and output stay on it; comma list; default: host",
    )
    model: str = _option(
        "MobileNetV3L",
        "name in the registry (invoke export --list) or an .onnx file; default: MobileNetV3L",
    )
    weights: str = _option(
        "auto",
        "imagenet (downloaded), seeded (made and calibrated here), auto (imagenet, else seeded); default: auto",
    )
    shape: str = _option(
        "",
        "sizes of an ONNX file's dynamic axes: NAME=SIZE by axis or INPUT=N,3,320,320 by input (N: the batch), comma list; no default",
    )
    rebatch: bool = _option(
        False,
        "make the fixed batch of an ONNX file dynamic, if a batch of n then equals n single runs; default: off",
    )
    inputs: str = _option(
        "",
        "values of an ONNX file's inputs, an .npz with an array for each input; default: seeded by type and use",
    )
    input_range: str = _option(
        "",
        "what an ONNX file expects of black and white, LOW,HIGH; default: 0,255",
    )
    item: str = _option(
        "",
        "what rates count, such as token; default: image, sequence or sample, as the model's input is",
    )
    items_per_sample: int = _option(
        1,
        "items in one sample of a batch, such as 128 tokens in a sequence; default: 1",
    )
    image: str = _option(
        "",
        "picture (file or URL) whose top 3 classes every framework prints; default: none",
    )
    runner: str = _option(
        "",
        "local (processes) or docker (containers); default: docker where an engine answers and --python is not given, else local",
    )
    python: str = _option(
        "",
        "interpreter that already has the framework, instead of an environment made here; implies the local runner",
    )
    quick: bool = _option(
        False,
        "a first look: 1 s windows, batch 1, 8 and 32; intervals are wide and energy is not to be trusted; default: off",
    )
    replicates: int = _option(
        0,
        "fresh workers that measure each cell; intervals are over them, and one alone gives no verdict; default: 3 (--quick: 1)",
    )
    images: int = _option(
        0,
        "images that a measured window holds at least; default: 512 (the study's pass), shared out among a cell's workers",
    )
    min_seconds: float = _option(
        0.0,
        "a measured window lasts at least this long, in s; default: 5 with one worker, 3 with several (CPU: 2; --quick: 1)",
    )
    max_seconds: float = _option(
        0.0,
        "and at most this long, in s, converged or not; default: 30, shared out among a cell's workers (--quick: 4)",
    )
    warmup_seconds: float = _option(
        0.0,
        "warm-up ends when three blocks agree within 5 %, at the latest after this long, in s; default: 10 (--quick: 2)",
    )
    idle_seconds: float = _option(
        -1.0,
        "idle power is read this long before and after each cell's load, and before the first worker, in s; default: 1 (--quick: 0.3)",
    )
    cell_timeout: float = _option(
        0.0,
        "a cell that takes longer in all is a timeout row, compilation included, in s; default: 900 (--quick: 120)",
    )
    threads: int = _option(
        0,
        "threads inside an operation on the CPU; default: the framework's choice",
    )
    seed: int = _option(
        -1,
        "seed of the order of cells and of arrivals; default: drawn, and stored in run.json",
    )
    gpu_driver: str = _option(
        "",
        "how containers get the GPU: nvidia (NVIDIA's runtime) or cdi; default: what the engine offers",
    )
    cpus: str = _option(
        "",
        "CPUs of the worker's container, as a list such as 0-3,8; the sidecar gets the others; default: all",
    )
    memory: str = _option(
        "",
        "memory limit of a container, such as 8g; over it the cell is an oom row; default: none",
    )
    pids: int = _option(
        4096,
        "processes and threads that a container may have; default: 4096",
    )
    shm: str = _option(
        "1g",
        "size of a container's /dev/shm; default: 1g",
    )
    tmp: str = _option(
        "4g",
        "size of a container's /tmp (memory); default: 4g",
    )
    scenario: str = _option(
        "",
        "single-stream (one by one), offline (device kept full), multi-stream, server (random arrivals); comma list; default: first",
    )
    streams: str = _option(
        "",
        "multi-stream: inferences at a time, each by an instance of its own, comma list; default: 2",
    )
    rate: str = _option(
        "",
        "server: mean arrivals of single images, in 1/s, comma list; no default",
    )
    batch_window_ms: float = _option(
        -1.0,
        "server: wait so long, in ms, for a batch to fill up; default: 0, take what is there",
    )
    frontend: str = _option(
        "script",
        "script, or notebook: the same worker in a cell of a Jupyter kernel; comma list, both are then compared; default: script",
    )
    tuning: str = _option(
        "tuned",
        "stock (first tutorial), tuned (public interface alone), rewritten (model, kernels changed), comma list, all; default: tuned",
    )
    input: str = _option(
        "float32",
        "feed images as float32, or as uint8 that the device casts; comma list; default: float32",
    )
    cool_to: float = _option(
        0.0,
        "before each cell, wait until the GPU is no hotter than this, in C; default: do not wait",
    )
    cool_max_seconds: float = _option(
        0.0,
        "but wait at most this long, in s; default: 300",
    )
    #: overrides of the settings that a caller in Python may give (`invoke demo`)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """The options among what a task was given."""
        return cls(**{name: value for name, value in given.items() if name in cls.__dataclass_fields__})
