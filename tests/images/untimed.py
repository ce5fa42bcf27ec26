"""For the drivers: of a level's ways the first one that works is taken.

The others are built and run as well, but no time decides a test.
"""

import itertools

from common.harness import choices


def take_the_first_way():
    rank = itertools.count()

    def once(run):
        run()
        return float(next(rank))

    choices.median_seconds = once
