"""Names of C++ as people write them, by the C++ library that every framework has loaded anyway."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any, Dict, Iterable, Optional


def demangle(names: Iterable[str]) -> Dict[str, str]:
    """Mangled name -> plain name; the name itself where it is none of C++ or no library can tell."""
    library = _library()
    return {name: _plain(library, name) if library is not None and name.startswith("_Z") else name for name in names}


def _library() -> Optional[Any]:
    for name in ("libstdc++.so.6", "libc++abi.so.1"):
        try:
            library = ctypes.CDLL(name)
            function = library.__cxa_demangle
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_void_p
        function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
        return function
    return None


def _plain(function: Any, name: str) -> str:
    status = ctypes.c_int(0)
    address = function(name.encode(), None, None, ctypes.byref(status))
    if not address:
        return name
    try:
        return ctypes.string_at(address).decode(errors="replace")
    finally:
        free = ctypes.CDLL(None).free
        free.argtypes = [ctypes.c_void_p]
        free(address)
