"""What the Python drivers share: where to connect, and one line of JSON for each case.

A driver is called with a JSON object that says where and as whom, and with the names of cases. What each case
saw is a short text without anything that differs from run to run, so that two servers can be compared.
"""

import hashlib
import json
import sys
import time

CASES = {}

# Above every window and buffer between the two ends.
BULK = 4 << 20


class Site:
    """Where and as whom; see `Driver` in families.rs."""

    def __init__(self, fields):
        self.__dict__.update(fields)


def case(name):
    def register(function):
        CASES[name] = function
        return function

    return register


def same(sent, back):
    if sent == back:
        return f"same {len(back)}"
    return f"sent {len(sent)} {digest(sent)}, back {len(back)} {digest(back)}"


def digest(data):
    return hashlib.sha256(data).hexdigest()


def http_reply(body):
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def main(run):
    site = Site(json.loads(sys.argv[1]))
    for name in sys.argv[2:]:
        began = time.monotonic()
        try:
            saw = run(CASES[name], site)
        except Exception as fault:  # what a client throws is what it saw
            saw = f"{type(fault).__name__}: {fault}"
        took = round(time.monotonic() - began, 3)
        print(json.dumps({"case": name, "saw": saw, "took": took}), flush=True)
