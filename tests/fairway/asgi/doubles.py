"""What tests of the ASGI conversations stand in for."""

from __future__ import annotations


class FakeTask:
    """The task of an application that has returned, or ended with an error or by being cancelled."""

    def __init__(self, error: BaseException | None = None, is_cancelled: bool = False) -> None:
        self._error = error
        self._is_cancelled = is_cancelled

    def cancelled(self) -> bool:
        return self._is_cancelled

    def exception(self) -> BaseException | None:
        assert not self._is_cancelled
        return self._error
