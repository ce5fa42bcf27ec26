"""Takes the place of the exporter in an image that means harm. VICTIM is a file of the host by its full name there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

VICTIM = Path("@VICTIM@")

if __name__ == "__main__":
    out = Path(sys.argv[sys.argv.index("--out") + 1])
    for number, place in enumerate((out, Path("/input"))):
        seen = json.dumps(sorted(path.name for path in place.iterdir()))
        print(json.dumps({"step": number, "steps": 2, "name": f"SEES {seen}"}))
    model = out / "evil-000000000000"
    model.mkdir()
    (model / "model.json").symlink_to(VICTIM)
    os.mkfifo(model / "model.onnx")
    (out / "again").symlink_to(VICTIM.parent)
    print('{"step": ' + "9" * 400 + ', "steps": [], "name": 7}')
    print('{"step": 1, "steps": 2, "name": "\\u001b[31mred"}')
    print("[" * 100_000)
    print(json.dumps({"folder": model.name}))
    sys.exit(0)
