"""For all tests."""

from __future__ import annotations

import signal

# A shell starts background jobs with SIGINT ignored, and every process under them inherits that: the tests of Ctrl-C
# would then wait for something that cannot happen.
signal.signal(signal.SIGINT, signal.default_int_handler)
