"""Run by an image's interpreter: `workers_driver.py JOB.json ...`; the cells of each job, by a worker of its own, all in this process.

The jobs are of one image and one environment: a framework takes longer to import than to measure a small model.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common.harness.worker import Worker
from common.job import Job


def main(*paths):
    for path in map(Path, paths):
        job = Job.read_here(path)
        worker = Worker(job, path.parent.name, lambda event, **fields: None, {})
        for cell in job.cells:
            outcome = worker.run_cell(cell)
            assert not outcome.spent, f"{cell.key} needs another worker after it: {outcome.message}"
        worker.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
