"""Takes the place of the supervisor in an image that means harm; replicate 1 is run honestly.

Of replicate 0 each batch size tries something else. VICTIM is a file of the host by its full name there; what the host
does with a link is done where that name means something.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from common.cell import Cell
from common.harness import journal
from common.harness.rows import begin_row
from common.harness.supervisor import main
from common.harness.writer import write_cell
from common.job import Job
from common.model_files import ModelFiles

VICTIM = Path("@VICTIM@")


def names(folder: object) -> str:
    return json.dumps(sorted(path.name for path in Path(str(folder)).iterdir()))


def attempt(what: str, function: object, *arguments: object) -> None:
    try:
        function(*arguments)  # type: ignore[operator]
        print(f"ATTEMPT {what}: done", flush=True)
    except OSError as error:
        print(f"ATTEMPT {what}: {error.strerror}", flush=True)


def replaced(path: Path, make: object) -> None:
    path.unlink()
    make(path)  # type: ignore[operator]


def rewrite(path: Path, good: bytes, ended: threading.Event) -> None:
    number = 0
    while not ended.is_set():
        number += 1
        path.unlink(missing_ok=True)
        if number % 3:
            path.write_bytes(good if number % 3 == 1 else good + b"junk")
        else:
            path.symlink_to(VICTIM)


class Harm:
    """What it does with one job. name: of the job, as its logs are called."""

    def __init__(self, job: Job, name: str) -> None:
        self._job, self._name = job, name
        self._run, self._model = Path(job.run_dir), ModelFiles.read(Path(job.model_dir))
        self._by_size = {cell.batch_size: cell for cell in job.cells}

    def do(self) -> None:
        (self._run / "logs").mkdir(parents=True, exist_ok=True)
        print("SEES", names("/data"), names(self._run), flush=True)
        print("SEES models", names("/data/models"), flush=True)
        print("SEES cache", names(self._job.cache_dir), flush=True)
        self._put_links()
        self._touch_what_is_not_its_own()
        self._spoil_cells()
        self._print_nonsense()
        for cell in self._job.cells:
            if cell.batch_size < 7:
                self._finish(cell)
        if 8 in self._by_size:
            self._rewrite_while_it_is_taken(self._by_size[8])
        if 7 in self._by_size:
            self._take_the_place_of_another(self._by_size[7])

    def _put_links(self) -> None:
        """Where the host might write: logs of this job and the next, the journal's neighbours, the description."""
        for log in (f"{self._name}.container.log", f"{self._name[:-1]}1.container.log", "sidecar-cpu.log"):
            (self._run / "logs" / log).symlink_to(VICTIM)
        for place in ("run.json", "power.csv", ".run.json.new", "picture.npy"):
            (self._run / place).symlink_to(VICTIM)

    def _touch_what_is_not_its_own(self) -> None:
        attempt("model", (Path(self._job.model_dir) / "model.json").write_text, "{}")
        attempt("new model", (Path("/data/models/evil")).mkdir)
        attempt("job", Path("/data/job.json").write_text, "{}")
        attempt("power", Path("/data/power/power.csv").write_text, "x")
        attempt("board", Path("/data/board/end").write_text, "x")
        attempt("code", Path("/opt/framewatt/common/schema.py").write_text, "")
        attempt("other cache", Path(self._job.cache_dir, "..", "analysis").mkdir)
        attempt("above", (self._run / ".." / "cells").mkdir)
        Path(self._job.cache_dir, "index.json").write_text("{}")

    def _write(self, cell: Cell, **columns: object) -> Path:
        row = {**begin_row(self._job, cell, self._model, "w"), "status": "ok", "samples": 3, **columns}
        write_cell(self._run, row, [("measure", 1000, 3700)], [1000, 2000, 3000], [1500, 2600, 3700])
        return self._run / "cells" / cell.key

    def _finish(self, cell: Cell) -> None:
        journal.append(self._run, "start", cell.key, "w")
        journal.append(self._run, "finish", cell.key, "w", "ok")
        finished(cell.key)

    def _spoil_cells(self) -> None:
        by_size, write = self._by_size, self._write
        if 1 in by_size:  # a file that is a link
            replaced(write(by_size[1]) / "samples.csv", lambda path: path.symlink_to(VICTIM))
        if 2 in by_size:  # the folder is a link
            folder = write(by_size[2])
            shutil.rmtree(folder)
            folder.symlink_to(VICTIM.parent)
        if 3 in by_size:
            replaced(write(by_size[3]) / "phases.csv", os.mkfifo)
        if 4 in by_size:
            os.truncate(write(by_size[4]) / "samples.csv", 2**40)
        if 5 in by_size:  # says that it is another cell
            write(by_size[5], variant="torch")
        if 6 in by_size:  # a device, for which it has no right
            path = write(by_size[6]) / "samples.csv"
            path.unlink()
            attempt("device", os.mknod, path, 0o20666, os.makedev(1, 5))

    def _print_nonsense(self) -> None:
        print('{"event": "cell_start", "cell_key": ["a"], "worker": 7}', flush=True)
        key = self._by_size[min(self._by_size)].key
        print(json.dumps({"event": "progress", "cell_key": key, "fraction": float("nan")}), flush=True)
        print("\x1b[2J\x1b[31m" + "x" * 300_000, flush=True)

    def _rewrite_while_it_is_taken(self, cell: Cell) -> None:
        path = self._write(cell) / "samples.csv"
        good, ended = path.read_bytes(), threading.Event()
        thread = threading.Thread(target=rewrite, args=(path, good, ended))
        thread.start()
        time.sleep(0.2)
        self._finish(cell)
        time.sleep(1.5)
        ended.set()
        thread.join()

    def _take_the_place_of_another(self, cell: Cell) -> None:
        stranger = cell.key.replace("_r0", "_r1")
        shutil.copytree(self._write(cell), self._run / "cells" / stranger)
        journal.append(self._run, "finish", stranger, "w", "ok")
        shutil.rmtree(self._run / "cells" / cell.key)
        finished(stranger)


def finished(key: str) -> None:
    print(json.dumps({"event": "cell_finish", "cell_key": key, "status": "ok", "message": ""}), flush=True)


if __name__ == "__main__":
    job = Job.read(Path(sys.argv[1]))
    if job.cells[0].replicate == 0:
        Harm(job, f"{job.cells[0].variant}_{job.cells[0].precision}_script_cpu_r0").do()
        os._exit(7)
    sys.exit(main(sys.argv[1:]))
