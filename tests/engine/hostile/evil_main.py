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


def harm(job: Job, name: str) -> None:
    run, model = Path(job.run_dir), ModelFiles.read(Path(job.model_dir))
    (run / "logs").mkdir(parents=True, exist_ok=True)
    print("SEES", names("/data"), names(run), flush=True)
    print("SEES models", names("/data/models"), flush=True)
    print("SEES cache", names(job.cache_dir), flush=True)
    # Links where the host might write: logs of this job and the next, the journal's neighbours, the description.
    for log in (f"{name}.container.log", f"{name[:-1]}1.container.log", "sidecar-cpu.log"):
        (run / "logs" / log).symlink_to(VICTIM)
    for place in ("run.json", "power.csv", ".run.json.new", "picture.npy"):
        (run / place).symlink_to(VICTIM)
    # What is not its own.
    attempt("model", (Path(job.model_dir) / "model.json").write_text, "{}")
    attempt("new model", (Path("/data/models/evil")).mkdir)
    attempt("job", Path("/data/job.json").write_text, "{}")
    attempt("power", Path("/data/power/power.csv").write_text, "x")
    attempt("board", Path("/data/board/end").write_text, "x")
    attempt("code", Path("/opt/framewatt/common/schema.py").write_text, "")
    attempt("other cache", Path(job.cache_dir, "..", "analysis").mkdir)
    attempt("above", (run / ".." / "cells").mkdir)
    Path(job.cache_dir, "index.json").write_text("{}")

    def write(cell, **columns):
        row = {**begin_row(job, cell, model, "w"), "status": "ok", "samples": 3, **columns}
        write_cell(run, row, [("measure", 1000, 3700)], [1000, 2000, 3000], [1500, 2600, 3700])
        return run / "cells" / cell.key

    def finish(cell):
        journal.append(run, "start", cell.key, "w")
        journal.append(run, "finish", cell.key, "w", "ok")
        print(json.dumps({"event": "cell_finish", "cell_key": cell.key, "status": "ok", "message": ""}), flush=True)

    by_size = {cell.batch_size: cell for cell in job.cells}
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
    print('{"event": "cell_start", "cell_key": ["a"], "worker": 7}', flush=True)
    progress = {"event": "progress", "cell_key": by_size[min(by_size)].key, "fraction": float("nan")}
    print(json.dumps(progress), flush=True)
    print("\x1b[2J\x1b[31m" + "x" * 300_000, flush=True)
    for cell in job.cells:
        if cell.batch_size < 7:
            finish(cell)
    if 8 in by_size:  # rewritten while the host takes it
        path = write(by_size[8]) / "samples.csv"
        good, ended = path.read_bytes(), threading.Event()
        thread = threading.Thread(target=rewrite, args=(path, good, ended))
        thread.start()
        time.sleep(0.2)
        finish(by_size[8])
        time.sleep(1.5)
        ended.set()
        thread.join()
    if 7 in by_size:  # figures of another cell in its place
        stranger = by_size[7].key.replace("_r0", "_r1")
        shutil.copytree(write(by_size[7]), run / "cells" / stranger)
        journal.append(run, "finish", stranger, "w", "ok")
        shutil.rmtree(run / "cells" / by_size[7].key)
        print(json.dumps({"event": "cell_finish", "cell_key": stranger, "status": "ok", "message": ""}), flush=True)


if __name__ == "__main__":
    job = Job.read(Path(sys.argv[1]))
    if job.cells[0].replicate == 0:
        harm(job, f"{job.cells[0].variant}_{job.cells[0].precision}_script_cpu_r0")
        os._exit(7)
    sys.exit(main(sys.argv[1:]))
