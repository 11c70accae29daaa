"""paramiko as the hand that puts any message on the wire, and writes down what comes back, in order."""

import threading

import paramiko
from paramiko.common import MSG_NAMES

from family import case, main

LIMIT = 10
UNIMPLEMENTED, PING, PONG = 3, 192, 193
GLOBAL_REQUEST, OPEN, REQUEST, DATA, EOF, CLOSE = 80, 90, 98, 94, 96, 97
SUCCESS, FAILURE = 81, 82
NAMES = {81: "global success", 82: "global failure", 91: "opened", 92: "not opened", 99: "success", 100: "failure"}


class Wire(paramiko.Transport):
    """A connection whose incoming messages of the connection protocol, and UNIMPLEMENTED, go to a list."""

    def __init__(self, site):
        super().__init__((site.host, site.port))
        self.seen, self.more = [], threading.Condition()
        self.sent_packets = 0
        read = self.packetizer.read_message

        def read_and_note():
            number, message = read()
            if number >= GLOBAL_REQUEST or number == UNIMPLEMENTED:
                with self.more:
                    self.seen.append((number, message.asbytes()))
                    self.more.notify_all()
                # An IGNORE in its place: paramiko has no part in these.
                return 2, paramiko.Message()
            return number, message

        # Before the reading thread begins: it may be waiting in the old one later on.
        self.packetizer.read_message = read_and_note
        keys = paramiko.HostKeys(site.known_hosts)
        name = site.host if site.port == 22 else f"[{site.host}]:{site.port}"
        self.start_client(timeout=LIMIT)
        key = self.get_remote_server_key()
        assert keys.check(name, key), f"{name} showed another key than known_hosts has"
        self.auth_publickey(site.user, paramiko.PKey.from_path(site.key))

    def send(self, number, *parts):
        """Sends a message: integers become uint32, booleans bytes, strings strings, bytes what they are."""
        message = paramiko.Message()
        message.add_byte(bytes([number]))
        for part in parts:
            if isinstance(part, bool):
                message.add_boolean(part)
            elif isinstance(part, int):
                message.add_int(part)
            elif isinstance(part, str):
                message.add_string(part)
            else:
                message.add_bytes(part)
        self._send_message(message)

    def wait(self, is_last):
        """What came, host keys' announcements aside, until a message is the last."""
        def shown():
            return [show(*one) for one in self.seen if b"hostkeys-00" not in one[1]]

        with self.more:
            if not self.more.wait_for(lambda: any(is_last(*one) for one in self.seen), LIMIT):
                return shown() + ["and no more"]
            return shown()


def show(number, body):
    message = paramiko.Message(body)
    if number == UNIMPLEMENTED:
        return "unimplemented"
    if number == SUCCESS and body:
        return f"global success, port {'given' if message.get_int() > 1023 else 'missing'}"
    if number == 91:
        return f"opened {message.get_int()}, window {message.get_int() >= 0}"
    if number == 92:
        return f"not opened {message.get_int()}: {message.get_int()} {message.get_text()}"
    if number in (99, 100):
        return f"{NAMES[number]} {message.get_int()}"
    if number == DATA:
        return f"data {message.get_int()} {message.get_text()!r}"
    if number == REQUEST:
        return f"request {message.get_int()} {message.get_text()} {message.get_boolean()} {message.get_remainder().hex()}"
    if number == 93:
        return f"window {message.get_int()}"
    if number in (EOF, CLOSE):
        return f"{MSG_NAMES[number]} {message.get_int()}"
    if number == PONG:
        return f"pong {message.get_text()}"
    return NAMES.get(number, str(number)) + (f" {body.hex()}" if body else "")


def run(function, site):
    wire = Wire(site)
    try:
        return function(wire)
    finally:
        wire.close()


@case("global requests")
def global_requests(wire):
    wire.send(GLOBAL_REQUEST, "nobody@example.org", True, b"with a payload")
    wire.send(GLOBAL_REQUEST, "nobody@example.org", False)
    wire.send(GLOBAL_REQUEST, "tcpip-forward", True, "127.0.0.1", 0)
    wire.send(GLOBAL_REQUEST, "keepalive@openssh.com", True)
    wire.send(GLOBAL_REQUEST, "tcpip-forward", False, "127.0.0.1", 0)
    wire.send(GLOBAL_REQUEST, "cancel-tcpip-forward", True, "127.0.0.1", 1)
    wire.send(GLOBAL_REQUEST, "tcpip-forward", True, "127.0.0.1", 0)
    wire.send(GLOBAL_REQUEST, "", True)
    wire.send(OPEN, "end-of-this@example.org", 9, 1000, 1000)
    return wire.wait(lambda number, _: number == 92)


@case("channels")
def channels(wire):
    wire.send(OPEN, "nothing@example.org", 5, 100_000, 1000, b"with a payload")
    wire.send(OPEN, "session", 6, 100_000, 1000)
    opened = wire.wait(lambda number, _: number == 91)
    remote = paramiko.Message(next(body for number, body in wire.seen if number == 91))
    remote.get_int()
    channel = remote.get_int()
    wire.seen.clear()
    wire.send(REQUEST, channel, "nothing@example.org", True, b"with a payload")
    wire.send(REQUEST, channel, "nothing@example.org", False)
    wire.send(REQUEST, channel, "env", True, "LC_BOXGATE", "set")
    wire.send(REQUEST, channel, "env", True, "NOT_ACCEPTED", "set")
    wire.send(REQUEST, channel, "nothing@example.org", True)
    wire.send(REQUEST, channel, "exec", True, "cat; exec >&- 2>&-; sleep 0.3; exit 9")
    wire.send(REQUEST, channel, "nothing@example.org", True)
    wire.send(DATA, channel, "echoed")
    wire.send(EOF, channel)
    answers = wire.wait(lambda number, _: number == CLOSE)
    return opened + answers


@case("unknown messages")
def unknown_messages(wire):
    # Of the transport (RFC 4253 §11.4): answered by whoever ends it, so before the answers of whoever is behind
    # it, and the connection goes on.
    for _ in range(2):
        wire.send(15, b"what?")
        wire.wait(lambda *_: wire.seen[-1][0] == UNIMPLEMENTED)
        wire.send(GLOBAL_REQUEST, "keepalive@openssh.com", True)
        seen = wire.wait(lambda *_: wire.seen[-1][0] == FAILURE)
    return seen


@case("ping")
def ping(wire):
    announced = wire.server_extensions.get("ping@openssh.com")
    wire.send(PING, "are you there?")
    return [repr(announced)] + wire.wait(lambda number, _: number in (PONG, UNIMPLEMENTED))


@case("strict key exchange")
def strict_kex(wire):
    # paramiko says so when the server announced it and both reset their sequence numbers at NEWKEYS; a server
    # that did not honour it would have failed the first message's integrity check.
    before = wire.agreed_on_strict_kex
    wire.renegotiate_keys()
    wire.send(GLOBAL_REQUEST, "keepalive@openssh.com", True)
    return [before] + wire.wait(lambda number, _: number == FAILURE)


main(run)
