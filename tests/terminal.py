"""A terminal for tests: a pseudo-terminal of a width, and what its screen shows in the end."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

TOKEN = re.compile(r"\x1b\[A|\r|\n|[^\x1b\r\n]+")


class Terminal:
    """`path`: of the device; `text`: everything that was written to it, once `opened` ends."""

    def __init__(self, columns: int) -> None:
        self.columns, self.text = columns, ""
        self._parts: list[bytes] = []
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.path = Path(os.ttyname(self._slave))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # Linux: EIO once nobody has the device open
            while part := os.read(self._master, 65536):
                self._parts.append(part)

    def written(self) -> str:
        """What was written until now."""
        return b"".join(self._parts).decode("utf-8", "replace")

    def close(self) -> None:
        os.close(self._slave)
        self._thread.join(10)
        self.text = self.written()
        os.close(self._master)

    def lines(self) -> list[str]:
        """The lines that stay on an endless screen, which wraps nothing."""
        screen, row, column = [""], 0, 0
        for token in TOKEN.findall(self.text):
            if token == "\r":
                column = 0
            elif token == "\n":
                row += 1
                screen += [""] * (row + 1 - len(screen))
            elif token == "\x1b[A":
                row -= 1
            else:
                line = screen[row].ljust(column)
                screen[row] = line[:column] + token + line[column + len(token) :]
                column += len(token)
        return [line.rstrip() for line in screen]


@contextlib.contextmanager
def opened(columns: int) -> Iterator[Terminal]:
    terminal = Terminal(columns)
    try:
        yield terminal
    finally:
        terminal.close()
