"""paramiko, case by case."""

import os
import threading

import paramiko
from paramiko.agent import AgentRequestHandler

from family import BULK, case, http_reply, main, same

LIMIT = 20


def connect(site, key=None, **options):
    client = paramiko.SSHClient()
    client.load_host_keys(site.known_hosts)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(
        site.host, site.port, site.user, key_filename=key or site.key, allow_agent=False,
        look_for_keys=False, timeout=LIMIT, auth_timeout=LIMIT, banner_timeout=LIMIT, **options,
    )
    return client


def run(function, site):
    with connect(site) as client:
        return function(site, client)


def execute(client, command):
    channel = client.get_transport().open_session(timeout=LIMIT)
    channel.settimeout(LIMIT)
    channel.exec_command(command)
    return channel


def read_all(receive):
    return b"".join(iter(lambda: receive(1 << 16), b""))


def output(client, command):
    return read_all(execute(client, command).recv).decode()


class Reader(threading.Thread):
    """Reads a stream to its end beside whatever else goes on."""

    def __init__(self, receive):
        super().__init__(daemon=True)
        self.receive = receive
        self.start()

    def run(self):
        self.data = read_all(self.receive)

    def all(self):
        self.join(LIMIT)
        return self.data


def echo(channel, data):
    out, err = Reader(channel.recv), Reader(channel.recv_stderr)
    channel.sendall(data)
    channel.shutdown_write()
    return out.all(), err.all()


@case("exit code")
def exit_code(site, client):
    return [execute(client, f"exit {code}").recv_exit_status() for code in (0, 1, 42, 255)]


@case("streams")
def streams(site, client):
    sent = os.urandom(BULK)
    channel = execute(client, "tee /dev/stderr")
    out, err = echo(channel, sent)
    return [same(sent, out), same(sent, err), channel.recv_exit_status()]


@case("end of input")
def end_of_input(site, client):
    channel = execute(client, "cat; echo ended; sleep 0.2; echo done")
    channel.sendall(b"line\n")
    channel.shutdown_write()
    return read_all(channel.recv).decode()


@case("terminal")
def terminal(site, client):
    channel = client.get_transport().open_session()
    channel.get_pty("vt220", width=101, height=41)
    channel.exec_command("echo $TERM; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done")
    text = ""
    while "ready" not in text:
        text += channel.recv(1000).decode()
    channel.resize_pty(width=133, height=55)
    text += read_all(channel.recv).decode()
    return [text.split(), channel.recv_exit_status()]


@case("environment")
def environment(site, client):
    channel = client.get_transport().open_session()
    channel.update_environment({"LC_BOXGATE": "set", "NOT_ACCEPTED": "set"})
    channel.exec_command("echo $LC_BOXGATE,$NOT_ACCEPTED")
    return read_all(channel.recv).decode()


@case("shell")
def shell(site, client):
    channel = client.get_transport().open_session()
    channel.invoke_shell()
    channel.sendall(b"echo in a shell; exit 7\n")
    return [read_all(channel.recv).decode(), channel.recv_exit_status()]


@case("signal")
def signal(site, client):
    # paramiko has no name for the signal, only that there was no exit status.
    return execute(client, "kill -TERM $$").recv_exit_status()


@case("sftp")
def sftp(site, client):
    with client.open_sftp() as files:
        files.mkdir(site.place)
        sent = os.urandom(BULK)
        with files.open(f"{site.place}/one", "wb") as remote:
            remote.set_pipelined(True)
            remote.write(sent)
        files.rename(f"{site.place}/one", f"{site.place}/two")
        files.chmod(f"{site.place}/two", 0o640)
        files.symlink("two", f"{site.place}/link")
        names = sorted(files.listdir(site.place))
        with files.open(f"{site.place}/link", "rb") as remote:
            remote.prefetch(BULK)
            back = remote.read()
        mode = oct(files.stat(f"{site.place}/two").st_mode)
        for name in names:
            files.remove(f"{site.place}/{name}")
        files.rmdir(site.place)
        try:
            missing = files.stat(site.place)
        except FileNotFoundError as fault:
            missing = fault.strerror
    return [names, mode, same(sent, back), missing]


def fetch(channel):
    channel.settimeout(LIMIT)
    channel.sendall(b"GET /body HTTP/1.0\r\n\r\n")
    return read_all(channel.recv).partition(b"\r\n\r\n")[2]


@case("local forward")
def local_forward(site, client):
    open_channel = client.get_transport().open_channel
    channel = open_channel("direct-tcpip", ("127.0.0.1", site.web_port), ("127.0.0.1", 1), timeout=LIMIT)
    with open(site.web_body, "rb") as body:
        return same(body.read(), fetch(channel))


@case("refused forward")
def refused_forward(site, client):
    try:
        client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", 1), ("127.0.0.1", 1), timeout=LIMIT)
    except paramiko.ChannelException as fault:
        return [fault.code, fault.text, output(client, "echo lives on")]


@case("remote forward")
def remote_forward(site, client):
    body = os.urandom(300_000)

    def serve(channel):
        channel.recv(1 << 16)
        channel.sendall(http_reply(body))
        channel.close()

    # Called on the thread that reads from the server, which must go on reading.
    def answer(channel, origin, server):
        threading.Thread(target=serve, args=[channel], daemon=True).start()

    transport = client.get_transport()
    port = transport.request_port_forward("127.0.0.1", 0, answer)
    channel = execute(client, f"curl -sS http://127.0.0.1:{port}/")
    back = read_all(channel.recv)
    transport.cancel_port_forward("127.0.0.1", port)
    gone = execute(client, f"curl -s http://127.0.0.1:{port}/").recv_exit_status()
    return [port > 0, same(body, back), gone]


@case("agent")
def agent(site, client):
    os.environ["SSH_AUTH_SOCK"] = site.agent
    channel = client.get_transport().open_session()
    AgentRequestHandler(channel)
    channel.exec_command("ssh-add -l | cut -d ' ' -f 1,3-")
    return read_all(channel.recv).decode()


@case("many channels")
def many_channels(site, client):
    channels = [execute(client, f"read -r line; echo $line {number}; exit {number}") for number in range(40)]
    for channel in reversed(channels):
        channel.sendall(b"number\n")
    said = [(read_all(channel.recv).decode(), channel.recv_exit_status()) for channel in channels]
    return said == [(f"number {number}\n", number) for number in range(40)]


@case("rekey")
def rekey(site, client):
    sent = os.urandom(BULK)
    channel = execute(client, "cat")
    reader = Reader(channel.recv)
    for at in range(0, BULK, BULK // 8):
        client.get_transport().renegotiate_keys()
        channel.sendall(sent[at:at + BULK // 8])
    channel.shutdown_write()
    return same(sent, reader.all())


@case("compression")
def compression(site, _):
    with connect(site, compress=True) as client:
        transport = client.get_transport()
        sent = b"compress me " * 100_000
        out, err = echo(execute(client, "tee /dev/stderr"), sent)
        return [transport.remote_compression, transport.local_compression, same(sent, out), same(sent, err)]


@case("unknown subsystem")
def unknown_subsystem(site, client):
    channel = client.get_transport().open_session()
    try:
        channel.invoke_subsystem("no-such-subsystem")
    except paramiko.SSHException as fault:
        return str(fault)


@case("keepalive")
def keepalive(site, client):
    reply = client.get_transport().global_request("keepalive@openssh.com", wait=True)
    return [reply is None, output(client, "echo alive")]


@case("wrong key")
def wrong_key(site, _):
    try:
        connect(site, key=site.wrong_key).close()
    except paramiko.SSHException as fault:
        return f"{type(fault).__name__}: {fault}"


main(run)
