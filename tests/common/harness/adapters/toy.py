"""A framework that misbehaves on request: `<variant>` names what it does, at batch size 2 only where it says `once`."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common.harness.adapter import DeviceOutOfMemory, Unsupported, only


def create(variant):
    if variant == "absent":
        raise Unsupported("this version has no GPU support")
    if variant == "import-fails":
        raise ImportError("libtoy.so.1: cannot open shared object file")
    if variant == "import-says-nothing":
        os.write(
            2,
            b"\nA module that was compiled using Toys 1.x cannot be run in\nToys 2.0 as it may crash.\n\nTry another.\n",
        )
        try:
            raise ImportError
        except ImportError as error:
            raise Unsupported("toys cannot be imported: ImportError") from error
    return Toy(variant)


#: instances of this process that have a model
LOADED = []


class Toy:
    def __init__(self, variant):
        self.variant = variant
        self.loads = 0
        pids = os.environ.get("TOY_PIDS")
        if pids:
            Path(pids).mkdir(exist_ok=True)
            (Path(pids) / str(os.getpid())).touch()

    def supports(self, cell):
        return "batch 2 is not to its taste" if self.variant == "picky" and cell.batch_size == 2 else None

    def load(self, model, precision, device, cache_dir, threads):
        self.loads += 1
        LOADED.append(self)
        if self.variant == "none-fits":
            raise DeviceOutOfMemory("no room for this one")
        if self.variant == "two-fit" and len(LOADED) > 2:
            raise DeviceOutOfMemory("no room for a third")
        with np.load(model.path(model.onnx)) as arrays:
            self.weights = arrays["weights"]

    def prepare(self, inputs, io):
        self.batch = only(inputs)
        if len(self.batch) == 2:
            getattr(self, "do_" + self.variant.replace("-", "_"), lambda: None)()

    def do_hangs(self):
        if os.environ.get("TOY_PIDS"):
            child = subprocess.Popen(["sleep", "60"])
            (Path(os.environ["TOY_PIDS"]) / str(child.pid)).touch()
        time.sleep(60)

    def do_killed(self):
        print("a last line before the end", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def do_segfaults(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def do_litters(self):
        tempfile.mkstemp(suffix=".py")
        Path(tempfile.gettempdir(), "headers").mkdir()
        os._exit(3)

    def do_raises(self):
        raise ValueError("a kernel\nof two lines")

    def do_memory_error(self):
        raise MemoryError

    def do_address_space(self):
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        np.ones(1 << 28)

    def do_device_memory(self):
        raise DeviceOutOfMemory("2.1 GiB asked, 0.3 GiB free")

    def do_starves(self):
        print("terminate called after throwing an instance of 'std::bad_alloc'", flush=True)
        os.kill(os.getpid(), signal.SIGABRT)

    def do_aborts(self):
        # As compiled code does, without a moment in which another thread of Python could run.
        libc = ctypes.PyDLL(None)
        libc.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n", 64)
        libc.abort()

    def do_quits(self):
        os._exit(3)

    def do_system_exit(self):
        sys.exit(3)

    def do_junk(self):
        os.write(1, b'{"event": "cell_finish", "status": "ok"}\n\xff\xfe junk\n' * 3)

    def do_unsupported(self):
        raise Unsupported("no engine for batch 2")

    def do_slow(self):
        time.sleep(0.3)

    def run(self):
        if self.variant == "sleeper":
            time.sleep(0.002)
        logits = self.batch.reshape(len(self.batch), -1) @ self.weights
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.result = powers / powers.sum(axis=1, keepdims=True)
        if self.variant == "wrong":
            self.result = self.result[:, ::-1]
        if self.variant == "nan":
            self.result[-1, 0] = np.nan

    def enqueue(self):
        self.run()
        if self.variant == "stale-slot":
            self.result = np.roll(self.result, 1, axis=1)

    def synchronize(self):
        pass

    def run_timed(self):
        self.run()
        return 1234 if self.variant == "device-clock" else None

    def output(self):
        return {"output": self.result}

    def versions(self):
        return {"framework": "1.2.3"}

    def settings(self):
        settings = {"loads": str(self.loads), "keras_home": os.environ["KERAS_HOME"]}
        level = os.environ.get("FRAMEWATT_TOY_LEVEL")
        return settings if level is None else {**settings, "level": level}

    def device_peak_bytes(self):
        return None

    def close(self):
        pass
