"""`Pace`: when to ask while a slider moves, so that answers are seen on the way and the last one is for where it rests."""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer, Signal

REST = 60  # ms after which a slider that has not moved is at rest


class Pace(QObject):
    """A question that replaces another before it was heard would leave nothing to see as long as the slider moves.

    Signals:
        due: ask for the newest value now.
    """

    due = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._is_heard = True  # whether the newest question has brought something to see
        self._behind = False  # whether the slider has moved on since it was put
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST)
        self._rest.timeout.connect(self.due)

    @property
    def is_heard(self) -> bool:
        return self._is_heard

    def moved(self) -> None:
        """The slider has moved."""
        self._rest.start()
        if self._is_heard:
            self.due.emit()
        else:
            self._behind = True

    def asked(self) -> None:
        """A question was put."""
        self._is_heard = self._behind = False

    def heard(self) -> None:
        """Something of its answer is seen, or it failed."""
        self._is_heard = True
        if self._behind:
            self._behind = False
            self.due.emit()

    def stop(self) -> None:
        """Nothing becomes due any more."""
        self._rest.stop()
        self._is_heard, self._behind = True, False
