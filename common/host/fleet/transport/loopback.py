"""A Ray cluster that talks to nobody but its own machine: for the tests and `invoke selfbench --fleet`."""

from __future__ import annotations


def on_loopback() -> dict[str, str]:
    """Variables to set before Ray is imported: its processes take 127.0.0.1 for the machine's address, and report nothing.

    Ray turns a loopback address that it is given into the machine's own, unless it believes to be where clusters of
    several machines do not exist.
    """
    return {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
