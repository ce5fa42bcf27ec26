"""TensorRT (8.6 to 11) and TensorRT-RTX: an ONNX file becomes an engine, one CUDA graph replays each inference.

Variants: `tensorrt`, and `tensorrt-rtx` for the cards that TensorRT-RTX supports (it compiles its kernels at run time).
How an engine is built: build; for which batch sizes, and all environment variables: profile; where it is kept: cache
(`<cache_dir>/tensorrt/`); how it runs and copies overlap: slot. These modules lie beside this file and are imported as
`images.tensorrt.*`: the folder that holds `common/` and `images/` is on the module path wherever the harness runs.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from common.cell import Cell
from common.harness import choices
from common.harness.adapter import Arrays, DeviceOutOfMemory, Unsupported, batch_size_of, refuse_bytes_that_come_out
from common.harness.reference import Reference
from common.model_files import ModelFiles
from images.tensorrt.build import Request, build, retyped, strongly_typed, unsupported_precision
from images.tensorrt.cache import (
    RECIPE,
    RETYPED_RECIPE,
    EngineKey,
    read_blob,
    read_engine,
    write_blob,
    write_engine,
)
from images.tensorrt.calibration import calibration_batches, make_calibrator
from images.tensorrt.cuda_graph import GraphDriver
from images.tensorrt.driver import cuda_version, driver_too_old
from images.tensorrt.log import Complaints, log_line, make_logger
from images.tensorrt.profile import Options, Profile, choose_profile, tactic_mask, workspace_limit
from images.tensorrt.slot import NON_BLOCKING, SERIAL, SIDE_BY_SIDE, Engine, Slot, describe_graph

_LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
#: inferences in flight of the offline scenario: one copying, one computing, one queued behind them
_SLOTS = 3
#: scenarios that call enqueue()
_IN_FLIGHT = ("offline", "multi-stream")
#: each way of queueing kernels is tried with at least so many inferences, and for so long
_TRIAL_INFERENCES = 12
_TRIAL_SECONDS = 0.2


def create(variant: str) -> TensorRT:
    """Imports the library. One that is missing is reported by supports(), as an `unsupported` row."""
    return TensorRT(variant)


class TensorRT:
    """The adapter; see common/harness/adapter.py for what its methods promise."""

    def __init__(self, variant: str) -> None:
        self._variant = variant
        self._level = "tuned"
        self._missing: Optional[str] = None
        self._trt: Any = None
        self._cuda: Any = None
        self._context: Any = None
        self._logger: Any = None
        self._graphs: Optional[GraphDriver] = None
        self._runtime: Any = None
        self._runtime_cache: Any = None
        self._engine: Optional[Engine] = None
        self._profile: Optional[Profile] = None
        self._slots: List[Slot] = []
        self._shapes: Dict[str, Tuple[int, ...]] = {}
        self._io = ""
        #: inputs that are fed as bytes
        self._cast: Tuple[str, ...] = ()
        #: which engines were tried, as settings
        self._trial: Dict[str, str] = {}
        #: shapes, bytes, io, slots and whether offline, of the last prepare(); None where there are no buffers
        self._prepared: Optional[Tuple[Dict[str, Tuple[int, ...]], Tuple[str, ...], str, int, bool]] = None
        self._inputs: Optional[Arrays] = None
        self._wanted = 1
        self._offline = False
        #: the stream of all kernels where they run one after another
        self._kernel_stream: Any = None
        self._kernels_serial = False
        #: what the trial of both ways found, in words
        self._order = ""
        self._next = 0
        self._last = 0
        self._engine_bytes = 0
        self._free_before = 0
        self._least_free = 0
        self._facts: Dict[str, Any] = {}
        self._complaints = Complaints()
        self._import()

    def _import(self) -> None:
        # kernels are loaded when first used, not all at once: saves memory, and TensorRT asks for it
        os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
        if self._variant not in _LIBRARIES:
            self._missing = f"no variant '{self._variant}' in this image; there is {', '.join(_LIBRARIES)}"
            return
        try:
            self._trt = import_library(_LIBRARIES[self._variant])
            self._cuda = importlib.import_module("pycuda.driver")
        except (ImportError, OSError) as error:
            self._missing = f"a library is missing: {' '.join(str(error).split())}"

    def tune(self, level: str) -> None:
        if level not in ("stock", "tuned"):
            raise Unsupported(f"{self._variant} is measured stock and tuned, not {level}")
        self._level = level

    def supports(self, cell: Cell) -> Optional[str]:
        """None, or why not. Remembers how many slots the cell's scenario needs, so that prepare() can make them."""
        if cell.device == "cpu":
            return f"{self._variant} runs on NVIDIA GPUs only"
        if self._missing is not None:
            return self._missing
        try:
            self._cuda.init()
            too_old = driver_too_old(self._cuda.get_driver_version())
        except self._cuda.Error as error:
            return f"no usable NVIDIA GPU or driver: {error}"
        if too_old is not None:
            return too_old
        self._wanted = max(_SLOTS, cell.streams) if cell.scenario in _IN_FLIGHT else 1
        self._offline = cell.scenario == "offline"
        return unsupported_precision(self._trt, cell.precision)

    def load(self, model: ModelFiles, precision: str, device: str, cache_dir: str, threads: Optional[int]) -> None:
        """Opens the device; `threads` is of no use here. The engine depends on batch sizes, so prepare() builds it."""
        if self._missing is not None:
            raise Unsupported(self._missing)
        try:
            self._onnx = model.form("onnx")
        except FileNotFoundError as error:
            raise Unsupported(f"no ONNX file: {error}") from error
        if device == "cpu":
            raise Unsupported(f"{self._variant} runs on NVIDIA GPUs only")
        reason = unsupported_precision(self._trt, precision)
        if reason is not None:
            raise Unsupported(reason)
        self._options = Options.read(os.environ)
        if self._level == "stock":  # an engine for this batch size by a builder with nothing set
            self._options = replace(self._options, profiles="each", builder_level=None, tactic_sources=())
        self._tactic_mask = tactic_mask(
            self._options.tactic_sources,
            {name: int(value) for name, value in self._trt.TacticSource.__members__.items()},
        )
        self._model, self._precision = model, precision
        self._folder = Path(cache_dir) / "tensorrt"
        self._open_device(int(device.partition(":")[2] or 0))
        self._logger = make_logger(self._trt, self._complaints)
        try:
            self._graphs = GraphDriver()
        except (OSError, AttributeError) as error:
            log_line(f"no CUDA graphs: {error}")

    def _open_device(self, ordinal: int) -> None:
        """Makes the primary context current: TensorRT uses CUDA's runtime API, which knows no other."""
        try:
            self._cuda.init()
            too_old = driver_too_old(self._cuda.get_driver_version())
            if too_old is not None:
                raise Unsupported(too_old)
            count = self._cuda.Device.count()
            if ordinal >= count:
                raise Unsupported(f"there is no GPU {ordinal}: this process sees {count}")
            device = self._cuda.Device(ordinal)
            self._capability = tuple(device.compute_capability())
            major, minor = self._capability
            self._gpu = f"{device.name()}-cc{major}.{minor}"
            targets = getattr(self._trt, "ComputeCapability", None)
            if targets is not None and f"SM{major}{minor}" not in targets.__members__:
                supported = ", ".join(
                    name[2:-1] + "." + name[-1] for name in targets.__members__ if name.startswith("SM")
                )
                raise Unsupported(
                    f"TensorRT-RTX supports compute capability {supported}; {device.name()} has {major}.{minor}"
                )
            self._device_memory = device.total_memory()
            context = device.retain_primary_context()
            context.push()
            self._context = context
        except self._cuda.MemoryError as error:
            raise DeviceOutOfMemory(f"no CUDA context: {error}") from error
        except self._cuda.Error as error:
            raise Unsupported(f"the GPU cannot be used: {error}") from error

    def prepare(self, inputs: Arrays, io: str) -> None:
        """Builds or reads the engine for this batch size and makes the slots; with the same shapes and io only new input."""
        self._inputs = inputs
        shapes = {name: values.shape for name, values in inputs.items()}
        cast = tuple(
            one.name
            for one in self._model.inputs
            if inputs[one.name].dtype == np.uint8 and np.dtype("O" if one.dtype == "str" else one.dtype).kind == "f"
        )
        refuse_bytes_that_come_out(self._model, cast)
        wanted = (shapes, cast, io, self._wanted, self._offline)
        if wanted == self._prepared:
            for slot in self._slots:
                slot.place(inputs)
            return
        self._drop_slots()
        self._shapes, self._io = shapes, io
        if cast != self._cast:
            self._engine, self._profile, self._cast = None, None, cast
        self._complaints.clear()
        with self._memory_errors():
            self._take(self._fastest_profile(batch_size_of(self._model, inputs)))
            self._free_before = self._least_free = self._free()
            while len(self._slots) < self._wanted:
                self._add_slot()
            if self._offline:
                self._choose_order()
        self._prepared = wanted
        if self._engine is not None and self._engine.runtime_config is not None:
            self._keep_runtime_cache()

    def _take(self, profile: Profile) -> None:
        """Makes the engine of this profile the one that slots are made of."""
        if profile != self._profile:
            self._engine = None
            self._profile = None
            self._engine = self._deserialize(profile)
            self._profile = profile

    def _fastest_profile(self, batch_size: int) -> Profile:
        """Of the engine for many batch sizes and the one for this alone, which of a stock row is, the faster one."""
        self._trial = {}
        shared = choose_profile(batch_size, self._options, self._model.fixed_batch)
        alone = Profile(batch_size, batch_size, batch_size)
        if self._options.profiles != "best" or shared == alone:
            return shared
        profiles = {str(one): one for one in (shared, alone)}
        chosen = choices.fastest(
            [choices.Algorithm(name, lambda one=one: _OneOf(self, one)) for name, one in profiles.items()],  # type: ignore[misc]
            choices.AlgorithmCache(self._folder / "choices.json"),
            f"{self._key(shared).stem} b{batch_size} {self._io}",
        )
        chosen.inference.close()
        self._trial = chosen.settings()
        return profiles[chosen.name]

    def _key(self, profile: Profile) -> EngineKey:
        level = self._options.builder_level
        return EngineKey(
            model_hash=self._model.hash,
            library=self._trt.__name__,
            version=self._trt.__version__,
            gpu=self._gpu,
            precision=f"{self._precision}-uint8" if self._cast else self._precision,
            profile=str(profile),
            tactic_sources="+".join(sorted(self._options.tactic_sources)) or "default",
            workspace_bytes=self._workspace_bytes or 0,
            builder_level=-1 if level is None else level,
            strongly_typed=strongly_typed(self._trt),
            recipe=RETYPED_RECIPE if retyped(self._trt, self._precision) else RECIPE,
        )

    @property
    def _workspace_bytes(self) -> Optional[int]:
        """None at the level stock: as the builder has it by default."""
        return None if self._level == "stock" else workspace_limit(self._options, self._device_memory)

    @property
    def _keeps_timings(self) -> bool:
        """At the level stock kernels are timed anew: those of a tuned build were timed under its limits."""
        return self._variant != "tensorrt-rtx" and self._level != "stock"

    def _deserialize(self, profile: Profile) -> Engine:
        """The engine for a profile: from the cache, else built and stored there."""
        key = self._key(profile)
        self._start_runtime()
        cached = read_engine(self._folder, key)
        plan, facts = cached if cached is not None else self._build(key, profile)
        free = self._free()
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None and cached is not None:
            log_line(
                f"cached engine {key.stem}.engine is built again: {self._complaints.reason('TensorRT refuses it')}"
            )
            cached = None
            plan, facts = self._build(key, profile)
            engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._complaints.failure("the engine cannot be loaded")
        self._engine_bytes = max(0, free - self._free())
        origin = "built" if cached is None else "cache"
        self._facts = dict(facts, origin=origin, engine_file=f"{key.stem}.engine", engine_file_bytes=len(plan))
        loaded = Engine(self._trt, self._cuda, engine, self._complaints)
        if hasattr(self._trt, "IRuntimeCache"):
            loaded.runtime_config = self._runtime_config(engine, key)
        return loaded

    def _start_runtime(self) -> None:
        """One for all engines of this process, which it must outlive."""
        if self._runtime is not None:
            return
        try:
            self._runtime = self._trt.Runtime(self._logger)
        except TypeError as error:  # pybind11's way to say that the factory returned nothing
            raise self._complaints.failure("TensorRT cannot start") from error

    def _build(self, key: EngineKey, profile: Profile) -> Tuple[bytes, Dict[str, Any]]:
        calibration = None
        if self._precision == "int8":
            if self._cast:
                raise Unsupported("int8 is calibrated on numbers: feed --input float32")
            if len(self._model.inputs) != 1 or not self._model.layout:
                raise Unsupported("int8 is calibrated on pictures: the model must have one input, an image")
            units = Reference.read(self._model).inputs
            images = np.concatenate([unit[self._model.inputs[0].name] for unit in units])
            calibration = calibration_batches(images, self._model.layout)
        request = Request(
            onnx=self._onnx,
            outputs=tuple(tensor.name for tensor in self._model.outputs),
            inputs={tensor.name: tensor for tensor in self._model.inputs},
            precision=self._precision,
            cast=self._cast,
            profile=profile,
            tactic_mask=self._tactic_mask,
            workspace_bytes=self._workspace_bytes,
            builder_level=self._options.builder_level,
            compute_capability=self._capability,
            timing_cache=self._folder / key.timing_cache_name if self._keeps_timings else None,
            calibrator=None
            if calibration is None
            else lambda: make_calibrator(self._trt, self._cuda, calibration, self._folder / key.calibration_name),
            calibration_batch=0 if calibration is None else calibration.shape[1],
        )
        plan, facts = build(self._trt, self._logger, self._complaints, request)
        self._complaints.clear()  # tactics that failed are no reason for what may fail later
        write_engine(self._folder, key, plan, facts)
        return plan, facts

    def _runtime_config(self, engine: Any, key: EngineKey) -> Any:
        """TensorRT-RTX: kernels specialized to the exact shape before they first run, and kept on disk."""
        config = engine.create_runtime_config()
        cache = config.create_runtime_cache()
        self._runtime_cache_path = self._folder / f"{key.stem}.kernels"
        stored = read_blob(self._runtime_cache_path)
        if stored and not cache.deserialize(stored):
            log_line(f"{self._runtime_cache_path.name} does not fit here and is started anew")
        config.set_runtime_cache(cache)
        config.dynamic_shapes_kernel_specialization_strategy = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self._runtime_cache = cache
        return config

    def _keep_runtime_cache(self) -> None:
        data = self._runtime_cache.serialize()
        if data is not None and bytes(data) != read_blob(self._runtime_cache_path):
            write_blob(self._runtime_cache_path, bytes(data))

    def _add_slot(self) -> Slot:
        engine = self._engine
        if self._slots and not self._profiles_are_shared():
            # Up to 8.6 a profile with a range belongs to one context, so further slots have an engine of their own.
            engine = self._another_engine()
        assert engine is not None and self._inputs is not None
        slot = Slot(engine, self._shapes, self._io, self._graphs, plain=self._level == "stock")
        slot.place(self._inputs)
        self._slots.append(slot)
        self._note_memory()
        return slot

    def _profiles_are_shared(self) -> bool:
        return int(self._trt.__version__.partition(".")[0]) >= 9 or self._variant == "tensorrt-rtx"

    def _another_engine(self) -> Engine:
        assert self._profile is not None
        cached = read_engine(self._folder, self._key(self._profile))
        plan = cached[0] if cached is not None else bytes(self._engine.engine.serialize())  # type: ignore[union-attr]
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._complaints.failure("a second copy of the engine cannot be loaded")
        return Engine(self._trt, self._cuda, engine, self._complaints)

    def _choose_order(self) -> None:
        """Kernels of the slots side by side or serial (images/tensorrt/slot.py): what is faster for this shape."""
        self._kernel_stream = self._cuda.Stream(NON_BLOCKING)
        for slot in self._slots:
            slot.serialize_on(self._kernel_stream)
        tried: Dict[str, float] = {}
        for word in (SIDE_BY_SIDE, SERIAL):
            self._kernels_serial = word == SERIAL
            for _ in range(2 * len(self._slots)):
                self.enqueue()
            self.synchronize()
            count, begin = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - begin < _TRIAL_SECONDS:
                for _ in range(_TRIAL_INFERENCES):
                    self.enqueue()
                self.synchronize()
                count += _TRIAL_INFERENCES
            tried[word] = (time.perf_counter() - begin) / count
        self._kernels_serial = tried[SERIAL] < tried[SIDE_BY_SIDE]
        self._order = "; ".join(f"{word}: {1000 * seconds:.3f} ms" for word, seconds in tried.items())
        self._next = self._last = 0

    def run(self) -> None:
        slot = self._slots[0]
        slot.enqueue()
        slot.stream.synchronize()
        self._last = 0

    def enqueue(self) -> None:
        """The next slot in turn. Slots that prepare() did not make (nobody said `offline`) are made by the first calls."""
        if len(self._slots) < _SLOTS:
            with self._memory_errors():
                self._add_slot()
        index = self._next
        slot = self._slots[index]
        if self._kernels_serial:
            slot.enqueue_serial()
        else:
            slot.enqueue()
        self._last = index
        self._next = (index + 1) % len(self._slots)

    def synchronize(self) -> None:
        if self._kernel_stream is not None:
            self._kernel_stream.synchronize()
        for slot in self._slots:
            slot.stream.synchronize()

    def run_timed(self) -> Optional[int]:
        self._last = 0
        return self._slots[0].run_timed()

    def output(self) -> Arrays:
        return self._slots[self._last].output()

    def versions(self) -> Dict[str, str]:
        found = {"numpy": np.__version__}
        if self._trt is not None:
            found["framework"] = self._trt.__version__
        if self._cuda is not None:
            pycuda = importlib.import_module("pycuda")
            found["pycuda"] = pycuda.VERSION_TEXT
            try:
                found["cuda_driver_api"] = cuda_version(self._cuda.get_driver_version())
            except self._cuda.Error as error:
                log_line(f"the driver does not tell its version: {error}")
        return found

    def settings(self) -> Dict[str, str]:
        """Of the shape prepared last. `slots`: inferences that can be in flight, each with buffers of its own."""
        typed = strongly_typed(self._trt)
        level = self._options.builder_level
        chosen = {
            "profile": str(self._profile),
            "engine": f"{self._facts.get('origin')}, built in {self._facts.get('build_seconds')} s",
            "engine_file": str(self._facts.get("engine_file")),
            "engine_file_bytes": str(self._facts.get("engine_file_bytes")),
            "timing_cache": str(self._facts.get("timing_cache")),
            "network": "strongly typed" if typed else "precision flags",
            "tf32": "off" if self._precision == "fp32" else "on",
            "tactic_sources": "+".join(self._options.tactic_sources) or "TensorRT's default",
            "workspace_mib": "TensorRT's default"
            if self._workspace_bytes is None
            else str(self._workspace_bytes >> 20),
            "builder_level": "TensorRT's default" if level is None else str(level),
            "host_memory": "none"
            if self._io != "host"
            else "pageable in, pinned out"
            if self._level == "stock"
            else "pinned",
            "slots": str(len(self._slots)),
        }
        chosen.update(self._trial)
        if self._order:
            chosen["kernels"] = SERIAL if self._kernels_serial else SIDE_BY_SIDE
            chosen["kernels_tried"] = self._order
        chosen.update(describe_graph(self._slots[0] if self._slots else None))
        return chosen

    def device_peak_bytes(self) -> Optional[int]:
        """Engine, contexts and buffers, as differences of the driver's free memory around their allocation.

        The CUDA context itself (hundreds of MB on large cards) and memory that building took are not in it. Other
        processes that allocate on the same GPU at the same moment would falsify it.
        """
        if not self._slots:
            return None
        self._note_memory()
        return self._engine_bytes + max(0, self._free_before - self._least_free)

    def close(self) -> None:
        """Frees everything in the order that CUDA needs: slots, engine, runtime, context. May be called twice."""
        if self._context is None:
            return
        self._drop_slots()
        self._engine = None
        self._runtime_cache = None
        self._runtime = None
        # detach() by name: pycuda's destructor would detach a primary context as if it were an ordinary one
        self._context.pop()
        self._context.detach()
        self._context = None

    def _drop_slots(self) -> None:
        while self._slots:
            self._slots.pop().close()
        self._kernel_stream, self._kernels_serial, self._order = None, False, ""
        self._next = self._last = 0
        self._prepared = None

    def _free(self) -> int:
        free: int = self._cuda.mem_get_info()[0]
        return free

    def _note_memory(self) -> None:
        self._least_free = min(self._least_free, self._free())

    @contextmanager
    def _memory_errors(self) -> Iterator[None]:
        """pycuda's own MemoryError (device or pinned host memory) in the harness's words."""
        try:
            yield
        except self._cuda.MemoryError as error:
            shapes = ", ".join(str(shape) for shape in self._shapes.values())
            raise DeviceOutOfMemory(f"batch of shape {shapes}: {error}") from error


class _OneOf:
    """An engine with one slot, for choices.fastest()."""

    def __init__(self, adapter: TensorRT, profile: Profile) -> None:
        self._adapter = adapter
        adapter._take(profile)
        adapter._add_slot()
        self.run = adapter.run

    def close(self) -> None:
        self._adapter._drop_slots()


def import_library(name: str) -> Any:
    """TensorRT 8.6's libraries look up each other's symbols in the global table, so they must be loaded into it."""
    flags = sys.getdlopenflags()
    if name == "tensorrt":
        sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)
    try:
        return importlib.import_module(name)
    finally:
        sys.setdlopenflags(flags)
