"""A browser for the pages: `ask` of the module beside this one, which pytest's importlib mode does not put on the path."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ask() -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("browser_page", Path(__file__).with_name("browser_page.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["browser_page"] = module
    spec.loader.exec_module(module)
    return module.ask
