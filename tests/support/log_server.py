"""A log server that takes syslog over TLS (RFC 5425)."""

import contextlib
import re
import socket
import ssl
import threading


class LogServer:
    """Takes frames over TLS and keeps the messages; a test may let it hang up."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.messages: list[str] = []
        self.connections = 0
        self.came = threading.Condition()
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[ssl.SSLSocket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                connection = self._context.wrap_socket(plain, server_side=True)
            except OSError:
                plain.close()
                continue
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: ssl.SSLSocket) -> None:
        buffer = b""
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            buffer += data
            while found := re.match(rb"(\d+) ", buffer):
                end = found.end() + int(found[1])
                if len(buffer) < end:
                    break
                with self.came:
                    self.messages.append(buffer[found.end() : end].decode("ascii"))
                    self.came.notify_all()
                buffer = buffer[end:]

    def wait(self, count: int) -> list[str]:
        with self.came:
            assert self.came.wait_for(lambda: len(self.messages) >= count, 20), self.messages
            return list(self.messages)

    def hang_up(self) -> None:
        while self._open:
            connection = self._open.pop()
            with contextlib.suppress(OSError):  # the other end was quicker
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
