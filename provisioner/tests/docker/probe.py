"""Asks each TARGET in turn, all at once, and prints what each answered, a line each and in their order.

A target is tcp/ADDRESS/PORT, udp/ADDRESS/PORT or ping/ADDRESS/-. With --from ADDRESS the questions pretend to come
from there. With --serve ANSWER the program answers at the targets' ports instead, and prints what comes by UDP.
"""

import socket
import subprocess
import sys
import threading

SILENT_AFTER = 1.5


def ask(target, source):
    kind, address, port = target.split("/")
    if kind == "ping":
        pinged = subprocess.run(["ping", "-n", "-c", "1", "-W", "1", address], capture_output=True, text=True)
        return "pong" if "1 received" in pinged.stdout else "silent"
    try:
        family, kind, protocol, _, end = socket.getaddrinfo(
            address, int(port), type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as asking:
            asking.settimeout(SILENT_AFTER)
            if source:
                asking.bind((source, 0))
            if kind == socket.SOCK_STREAM:
                asking.connect(end)
            else:
                asking.sendto(f"from {source}".encode(), end)
            return asking.recv(99).decode()
    except TimeoutError:
        return "silent"
    except OSError as fault:
        return f"fault: {fault}"


def ask_all(targets, source):
    answers = [""] * len(targets)

    def note(at, target):
        answers[at] = ask(target, source)

    threads = [threading.Thread(target=note, args=both) for both in enumerate(targets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(answers))


def serve(target, answer):
    kind, address, port = target.split("/")
    if kind == "tcp":
        both = address == "::"
        family = socket.AF_INET6 if both else socket.AF_INET
        listening = socket.create_server((address, int(port)), family=family, dualstack_ipv6=both)
        print("serving", flush=True)
        while True:
            with listening.accept()[0] as client:
                client.sendall(answer.encode())
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind((address, int(port)))
    print("serving", flush=True)
    while True:
        question, client = listening.recvfrom(99)
        print(question.decode(), flush=True)
        listening.sendto(answer.encode(), client)


if sys.argv[1] == "--serve":
    for target in sys.argv[3:]:
        threading.Thread(target=serve, args=(target, sys.argv[2])).start()
elif sys.argv[1] == "--from":
    ask_all(sys.argv[3:], sys.argv[2])
else:
    ask_all(sys.argv[1:], "")
