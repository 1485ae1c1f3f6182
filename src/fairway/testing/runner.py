"""Django's test runner, with channel layers of its own in each process of a test run.

    TEST_RUNNER = "fairway.testing.runner.DiscoverRunner"         # in the settings

With it, `manage.py test --parallel` does what `fairway.testing.pytest` does for the workers of pytest-xdist. A project
that has a runner already derives it from this one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from typing import Any

from django.test import runner

from fairway.testing.isolation import own_prefixes

_until_the_end = contextlib.ExitStack()


def _begin(worker: str) -> None:
    """Give the layers of this process their own prefixes, instead of those of the process that it was forked from."""
    _until_the_end.close()
    _until_the_end.enter_context(own_prefixes(worker))


def _begin_worker(*args: Any, **kwargs: Any) -> None:
    """Called first in each process of a parallel run, forked or spawned. No test module is loaded there yet."""
    runner.ParallelTestSuite.init_worker(*args, **kwargs)
    _begin(multiprocessing.current_process().name.rpartition("-")[2])


class ParallelTestSuite(runner.ParallelTestSuite):
    """Runs tests in several processes, each with its own channel layers."""

    init_worker = _begin_worker


class DiscoverRunner(runner.DiscoverRunner):
    """The runner of `manage.py test`."""

    parallel_test_suite = ParallelTestSuite

    def setup_test_environment(self, **kwargs: Any) -> None:
        super().setup_test_environment(**kwargs)
        _begin("main")

    def teardown_test_environment(self, **kwargs: Any) -> None:
        _until_the_end.close()
        super().teardown_test_environment(**kwargs)
