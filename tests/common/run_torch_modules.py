"""Run with an interpreter that has torch: FILE FUNCTION... For each function a JSON line: what is said of it, "" where it is taken.

What stands below is also the file of the user's: the functions named build modules that are taken, and others that are not.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

x = torch.rand(2, 4)


class Sum(nn.Module):
    def forward(self, a, b):
        return {"sum": a + b, "name": "no tensor"}


class Free(nn.Module):
    """A number that no state_dict keeps, drawn when it is built: the same where the seed is."""

    def __init__(self):
        super().__init__()
        self.scale = torch.rand(1)

    def forward(self, a):
        return a * self.scale


class Noise(nn.Module):
    def forward(self, a):
        return a + torch.randn_like(a)


class Saying(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, a):
        if isinstance(self.what, BaseException):
            raise self.what
        return a * self.what if isinstance(self.what, complex) else self.what


def trained():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.Linear(8, 2)).train(), x


def by_keywords():
    return Sum(), {"b": x, "a": x + 1}


def free():
    return Free(), x


def noise():
    return Noise(), x


def lazy():
    return nn.LazyLinear(2), x


def half():
    return nn.Linear(4, 2).half(), x.half()


def wrong_order():
    return x, nn.Linear(4, 2)


def generator():
    yield nn.Linear(4, 2), x


def number():
    return nn.Linear(4, 2), (3.5,)


def nested():
    return Sum(), ((x, x), x)


def empty():
    return nn.Linear(4, 2), torch.rand(0, 4)


def complex_in():
    return nn.Identity(), x.to(torch.complex64)


def bfloat16():
    return nn.Linear(4, 2).bfloat16(), x.bfloat16()


def elsewhere():
    return nn.Linear(4, 2), x.to("meta")


def sparse():
    return nn.Linear(4, 2), x.to_sparse()


def whole_numbers():
    return nn.Linear(4, 2), torch.arange(8).reshape(2, 4)


def too_many():
    return nn.Linear(4, 2), (x, x)


def two_sizes():
    return Sum(), (x, torch.rand(3, 4))


def no_output():
    return Saying("text"), x


def complex_out():
    return Saying(1j), x


def refuses():
    return Saying(ValueError("width must be 7\nsecond line")), x


def leaves():
    return Saying(SystemExit(7)), x


def scripted():
    return torch.jit.script(nn.Linear(4, 2)), x


def other_size_each_time():
    os.environ["BUILT"] = str(int(os.environ.get("BUILT", "1")) + 1)
    return nn.Linear(4, int(os.environ["BUILT"])), x


def other_values_each_time():
    os.environ["BUILT"] = str(int(os.environ.get("BUILT", "1")) + 1)
    made = Free()
    made.scale *= int(os.environ["BUILT"])
    return made, x


def with_a_neighbour():
    if not Path(__file__).name.startswith("run_"):
        raise FileNotFoundError("there is no weights.pt beside it")
    return nn.Linear(4, 2), x


if __name__ == "__main__":
    from common import torch_modules
    from common.errors import UserError

    for function in sys.argv[2:]:
        file, said = Path(sys.argv[1]), ""
        try:
            with tempfile.TemporaryDirectory() as place:
                kept = Path(place) / "torch"
                built = torch_modules.of_file(file, function)
                outputs = torch_modules.check_forward(built)
                torch_modules.save(built, f"{file}:{function}", kept, file)
                torch_modules.check_kept(built, outputs, kept)
        except UserError as error:
            said = str(error)
        print(json.dumps(said))
