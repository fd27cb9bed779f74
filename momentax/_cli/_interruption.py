"""An interrupt from the keyboard, which ends a command at once with a sentence.

Like `_parser` it imports neither JAX nor NumPy.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType

STATUS = 130  # What shells report of a program that an interrupt ended.


class Interruption:
    """While it is entered, one interrupt ends the process, also while XLA compiles.

    Python itself raises KeyboardInterrupt between two of its own instructions only, and XLA may
    compile or run for minutes in between. A thread waits for the signal instead. It ends the
    process without waiting for the main thread. Every file that a command writes appears complete
    or not at all, so that this leaves nothing damaged.

    sentence: a function that says what is kept. It runs in the thread, and must neither import
        anything nor wait for the main thread.
    on_end: what the thread calls first, such as closing a progress bar.
    """

    def __init__(self) -> None:
        self.sentence: Callable[[], str] = lambda: "interrupted"
        self.on_end: Callable[[], object] = lambda: None
        self._sockets: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Interruption:
        is_main = threading.current_thread() is threading.main_thread()
        # A process in the background may have been started so that it ignores interrupts.
        if not is_main or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            return self
        self._sockets = receiver, sender = socket.socketpair()
        sender.setblocking(False)
        self._handler = signal.signal(signal.SIGINT, lambda *_: None)
        self._descriptor = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._wait, args=(receiver,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sockets is None:
            return
        signal.set_wakeup_fd(self._descriptor)
        signal.signal(signal.SIGINT, self._handler)
        _, sender = self._sockets
        sender.close()  # The thread reads the end of its input and returns.

    def report(self) -> None:
        """Say on stderr what is kept."""
        with contextlib.suppress(Exception):  # The sentence must appear even so.
            self.on_end()
        line = f"momentax: {self.sentence()}\n"
        if sys.stderr.isatty():  # The terminal shows ^C at the beginning of the line.
            line = f"\n{line}"
        sys.stderr.write(line)
        sys.stderr.flush()

    def _wait(self, receiver: socket.socket) -> None:
        with receiver:
            while received := receiver.recv(1):
                if received[0] == signal.SIGINT:
                    self.report()
                    os._exit(STATUS)
