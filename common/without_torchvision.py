"""timm without torchvision: names that it imports from there and does not call while it builds and runs models.

timm lists torchvision as a requirement, but takes from it only what reads and augments pictures, and FrozenBatchNorm2d, which
no model is built with. torchvision of PyPI does not import beside a torch of another build ("operator torchvision::nms does not
exist"), so that timm is installed without it; where one imports, as in NVIDIA's image, it is used.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any, Optional, Sequence

NAME = "torchvision"


def import_timm() -> Any:
    """The package timm. Raises ImportError where it is not installed."""
    if "timm" in sys.modules:
        return sys.modules["timm"]
    try:
        importlib.import_module(NAME)
    except Exception:  # a build that does not fit raises RuntimeError
        for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
            del sys.modules[name]
        finder = _Finder()
        sys.meta_path.insert(0, finder)
        try:
            return importlib.import_module("timm")
        finally:
            # others shall see that there is none
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
                del sys.modules[name]
    return importlib.import_module("timm")


class _Names(type):
    """A class whose attributes are their own names, such as InterpolationMode.BILINEAR."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("create_feature_extractor", "get_graph_node_names"):
            raise AttributeError(name)  # timm asks whether they are there
        return _Names(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[types.ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname.split(".")[0] != NAME:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__path__ = []
