"""`python -m common.harness JOB.json`: carries out one job, prints its events; see supervisor.py."""

import sys

from common.harness.supervisor import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
