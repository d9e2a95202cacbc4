"""An engine that answers at once and becomes a faster one while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from engines import Array, Engine, EngineError, Tensor

log = logging.getLogger(__name__)

CLOSE_S = 2.0
"""How long `SwappingEngine.close` waits for the one that is being made."""


class SwappingEngine:
    """Answers with one engine until another is ready, then with that one; no call waits for it, and none is lost.

    The other is made in a thread. It has to agree with the first on the newest input that was seen, and takes over
    between two calls. If it fails later, what failed is answered by a new first one, which then stays.
    """

    def __init__(
        self,
        first: Callable[[], Engine],
        second: Callable[[threading.Event], Engine],
        *,
        agrees: Callable[[Mapping[str, Array], Mapping[str, Array]], None],
        name: str,
    ) -> None:
        """`second` raises `EngineError` where it is not to be had, and whatever it likes once its event is set.

        `agrees` is told what the second and the first make of one input, and raises `EngineError` where they differ.
        """
        self._open_first = first
        self._current = first()
        self.inputs: tuple[Tensor, ...] = self._current.inputs
        self.outputs: tuple[Tensor, ...] = self._current.outputs
        self._name = name
        self._agrees = agrees
        self._ready: Engine | None = None
        self._swapped = False
        self._stop = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._make, args=(second,), name=f"plan {name}", daemon=True)
        self._thread.start()

    @property
    def backend(self) -> str:
        return self._current.backend

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self._swapped:
            try:
                return self._current.infer(feeds)
            except EngineError as error:
                return self._back(feeds, error)
        found = self._current.infer(feeds)
        ready, self._ready = self._ready, None
        if ready is not None:
            self._take_over(ready, feeds, found)
        return found

    def close(self) -> None:
        self._stop.set()
        self._thread.join(CLOSE_S)
        self._current.close()
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.close()

    def __str__(self) -> str:
        return str(self._current)

    def settled(self, timeout_s: float) -> bool:
        """Whether the second engine is ready, or will not be, within that time."""
        return self._done.wait(timeout_s)

    def _make(self, second: Callable[[threading.Event], Engine]) -> None:
        try:
            engine = second(self._stop)
        except EngineError as error:
            if not self._stop.is_set():
                log.warning("%s: stays on %s: %s", self._name, self._current.backend, error)
        else:
            if self._stop.is_set():
                engine.close()
            else:
                self._ready = engine
        finally:
            self._done.set()

    def _take_over(self, ready: Engine, feeds: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        """Check `ready` on what was just answered; from the next call on it answers."""
        try:
            self._agrees(ready.infer(feeds), found)
        except EngineError as error:
            log.warning("%s: stays on %s: %s", self._name, self._current.backend, error)
            ready.close()
            return
        log.info("%s: now on %s", self._name, ready)
        self._current.close()
        self._current, self._swapped = ready, True

    def _back(self, feeds: Mapping[str, Array], error: EngineError) -> dict[str, Array]:
        """Answer by a new first engine; what is wrong with the feeds themselves it finds wrong too, and is raised."""
        first = self._open_first()
        try:
            found = first.infer(feeds)
        except EngineError:
            first.close()
            raise
        log.warning("%s: back on %s, because %s", self._name, first.backend, error)
        failed, self._current, self._swapped = self._current, first, False
        try:
            failed.close()
        except EngineError as second:
            log.warning("%s: could not be closed: %s", self._name, second)
        return found
