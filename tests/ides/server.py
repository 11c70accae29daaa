#!/usr/bin/env python3
"""A server as IDEs leave one in a box: it outlives connections, and whoever comes back finds its state.

    server.py serve PORT|PATH       listens on 127.0.0.1 (0: any port) or on a Unix socket, and says where
    server.py proxy ID              standard input and output lead to the server called ID, which is started if need be
    server.py proxy ID --reconnect  the same, but a server that is gone is a failure

Frames both ways: four bytes of length, little endian, and so many bytes. The reply to one begins with eight bytes,
the server's pid and the number of the frame among all that it ever got; then come the same bytes.
"""

import os
import socketserver
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from socket import AF_UNIX, SHUT_WR, socket

LOCK = threading.Lock()
PATIENCE = 10


class Window(socketserver.StreamRequestHandler):
    def handle(self):
        while len(head := self.rfile.read(4)) == 4:
            body = self.rfile.read(struct.unpack("<I", head)[0])
            with LOCK:
                self.server.frames += 1
                stamp = struct.pack("<II", os.getpid(), self.server.frames)
            self.wfile.write(struct.pack("<I", 8 + len(body)) + stamp + body)


def serve(where):
    port = where.isdigit()
    kind = socketserver.ThreadingTCPServer if port else socketserver.ThreadingUnixStreamServer
    kind.daemon_threads = True
    kind.request_queue_size = 128
    server = kind(("127.0.0.1", int(where)) if port else where, Window)
    server.frames = 0
    print("listening on", server.server_address[1] if port else where, flush=True)
    server.serve_forever()


def connect(path):
    """The server's socket, or None."""
    server = socket(AF_UNIX)
    try:
        server.connect(path)
    except OSError:
        server.close()
        return None
    return server


def proxy(name, reconnect):
    path = f"{os.environ['XDG_RUNTIME_DIR']}/{name}.sock"
    server = connect(path)
    if not server and reconnect:
        sys.exit("the server is gone")
    if not server:
        Path(path).unlink(missing_ok=True)
        quiet = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.DEVNULL)
        subprocess.Popen([sys.argv[0], "serve", path], start_new_session=True, **quiet)
    deadline = time.monotonic() + PATIENCE
    while not server and time.monotonic() < deadline:
        time.sleep(0.02)
        server = connect(path)
    if not server:
        sys.exit("the server did not start")
    threading.Thread(target=to_server, args=[server], daemon=True).start()
    while chunk := server.recv(1 << 16):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def to_server(server):
    while chunk := sys.stdin.buffer.read1(1 << 16):
        server.sendall(chunk)
    server.shutdown(SHUT_WR)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        proxy(sys.argv[2], "--reconnect" in sys.argv)
