"""Those who look on."""

from __future__ import annotations

from collections.abc import Callable

from agent.dashboard.viewer import Viewer

MOST = 16
"""Pages at once; a further one is refused."""


class Audience:
    """The pages that are open; what is told to them is told to each, and none holds up another."""

    def __init__(self, *, left_out: Callable[[], None]) -> None:
        """``left_out`` is called for each message that gave way in the queue of a page."""
        self._viewers: set[Viewer] = set()
        self._left_out = left_out

    def __bool__(self) -> bool:
        return bool(self._viewers)

    @property
    def full(self) -> bool:
        """Whether one more would be too many."""
        return len(self._viewers) >= MOST

    @property
    def watches(self) -> bool:
        """Whether anybody wants pictures."""
        return any(viewer.pictures for viewer in self._viewers)

    def join(self, *first: str) -> Viewer:
        """A new page, to which these messages are told first."""
        viewer = Viewer(left_out=self._left_out)
        for message in first:
            viewer.tell(message)
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """It was closed."""
        self._viewers.discard(viewer)

    def tell(self, message: str) -> None:
        """Tell a message to all."""
        for viewer in self._viewers:
            viewer.tell(message)

    def show(self, source: str, picture: bytes) -> None:
        """Show a picture to those who want any."""
        for viewer in self._viewers:
            viewer.show(source, picture)
