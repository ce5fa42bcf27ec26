"""Run by an image's interpreter: `export_driver.py REQUEST.json`, a list of commands, each the arguments of `python -m common.export`.

Runs them in one process, which imports PyTorch and its exporter once; the folders that they made are a line of JSON.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common.export import __main__ as command


def main(request):
    commands = json.loads(Path(request).read_text())
    folders = [command._export(command.parser().parse_args(arguments), sys.stderr) for arguments in commands]
    print(json.dumps(folders))


if __name__ == "__main__":
    main(*sys.argv[1:])
