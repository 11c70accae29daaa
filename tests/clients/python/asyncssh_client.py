"""asyncssh, case by case."""

import asyncio
import os

import asyncssh

from family import BULK, case, http_reply, main, same

LIMIT = 30


def connect(site, **options):
    settings = {
        "username": site.user, "client_keys": [site.key], "known_hosts": site.known_hosts,
        "agent_path": None, "config": None, "connect_timeout": LIMIT,
    }
    return asyncssh.connect(site.host, site.port, **(settings | options))


def run(function, site):
    async def with_connection():
        async with connect(site) as client:
            return await asyncio.wait_for(function(site, client), LIMIT)

    return asyncio.run(with_connection())


@case("exit code")
async def exit_code(site, client):
    return [(await client.run(f"exit {code}")).exit_status for code in (0, 1, 42, 255)]


@case("streams")
async def streams(site, client):
    sent = os.urandom(BULK)
    done = await client.run("tee /dev/stderr", input=sent, encoding=None)
    return [same(sent, done.stdout), same(sent, done.stderr), done.exit_status]


@case("end of input")
async def end_of_input(site, client):
    return (await client.run("cat; echo ended; sleep 0.2; echo done", input="line\n")).stdout


@case("terminal")
async def terminal(site, client):
    command = "echo $TERM; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done"
    async with client.create_process(command, term_type="vt220", term_size=(101, 41)) as process:
        text = await process.stdout.readuntil("ready")
        process.change_terminal_size(133, 55)
        text += await process.stdout.read()
        await process.wait_closed()
        return [text.split(), process.exit_status]


@case("environment")
async def environment(site, client):
    done = await client.run("echo $LC_BOXGATE,$NOT_ACCEPTED", env={"LC_BOXGATE": "set", "NOT_ACCEPTED": "set"})
    return done.stdout


@case("shell")
async def shell(site, client):
    done = await client.run(input="echo in a shell; exit 7\n")
    return [done.stdout, done.exit_status]


@case("signal")
async def signal(site, client):
    done = await client.run("kill -TERM $$")
    return [done.exit_status, done.exit_signal]


@case("signal sent")
async def signal_sent(site, client):
    async with client.create_process("echo ready; exec sleep 60") as process:
        await process.stdout.readline()
        process.send_signal("USR1")
        await process.wait_closed()
        return [process.exit_status, process.exit_signal]


@case("break")
async def send_break(site, client):
    async with client.create_process("echo ready; read -r line; exit 6", term_type="vt220") as process:
        await process.stdout.readline()
        process.send_break(500)
        process.stdin.write("line\n")
        await process.wait_closed()
        return process.exit_status


@case("sftp")
async def sftp(site, client):
    sent = os.urandom(BULK)
    async with client.start_sftp_client() as files:
        await files.mkdir(site.place)
        async with files.open(f"{site.place}/one", "wb") as remote:
            await remote.write(sent)
        await files.posix_rename(f"{site.place}/one", f"{site.place}/two")
        await files.chmod(f"{site.place}/two", 0o640)
        await files.symlink("two", f"{site.place}/link")
        names = sorted(set(await files.listdir(site.place)) - {".", ".."})
        async with files.open(f"{site.place}/link", "rb") as remote:
            back = await remote.read()
        mode = oct((await files.stat(f"{site.place}/two")).permissions)
        free = (await files.statvfs(site.place)).bfree > 0
        await files.rmtree(site.place)
        try:
            missing = await files.stat(site.place)
        except asyncssh.SFTPNoSuchFile as fault:
            missing = str(fault)
    return [names, mode, free, same(sent, back), missing]


async def fetch(reader, writer):
    writer.write(b"GET /body HTTP/1.0\r\n\r\n")
    reply = await reader.read()
    writer.close()
    return reply.partition(b"\r\n\r\n")[2]


def web_body(site):
    with open(site.web_body, "rb") as body:
        return body.read()


@case("local forward")
async def local_forward(site, client):
    return same(web_body(site), await fetch(*await client.open_connection("127.0.0.1", site.web_port)))


@case("socks")
async def socks(site, client):
    listener = await client.forward_socks("127.0.0.1", 0)
    port = str(listener.get_port())
    curl = ("-sS", "--socks5-hostname", f"127.0.0.1:{port}", f"http://localhost:{site.web_port}/body")
    process = await asyncio.create_subprocess_exec("curl", *curl, stdout=asyncio.subprocess.PIPE)
    body, _ = await process.communicate()
    return same(web_body(site), body)


@case("refused forward")
async def refused_forward(site, client):
    try:
        await client.open_connection("127.0.0.1", 1)
    except asyncssh.ChannelOpenError as fault:
        return [fault.code, fault.reason, (await client.run("echo lives on")).stdout]


def answerer(body):
    async def answer(reader, writer):
        await reader.read(1)
        writer.write(http_reply(body))
        await writer.drain()
        writer.close()

    return answer


@case("remote forward")
async def remote_forward(site, client):
    body = os.urandom(300_000)
    listener = await client.start_server(lambda host, port: answerer(body), "127.0.0.1", 0, encoding=None)
    port = listener.get_port()
    done = await client.run(f"curl -sS http://127.0.0.1:{port}/", encoding=None)
    listener.close()
    await listener.wait_closed()
    gone = await client.run(f"curl -s http://127.0.0.1:{port}/")
    return [port > 0, same(body, done.stdout), gone.exit_status]


@case("unix forwards")
async def unix_forwards(site, client):
    path, body = f"/tmp/{site.place}.sock", os.urandom(300_000)
    listener = await client.start_unix_server(lambda: answerer(body), path, encoding=None)
    done = await client.run(f"curl -sS --unix-socket {path} http://box/", encoding=None)
    # There and back: into the box by one channel, and from the socket in it by another.
    reader, writer = await client.open_unix_connection(path)
    back = await fetch(reader, writer)
    listener.close()
    await listener.wait_closed()
    return [same(body, done.stdout), same(body, back)]


@case("agent")
async def agent(site, _):
    async with connect(site, agent_path=site.agent, agent_forwarding=True) as client:
        return (await client.run("ssh-add -l | cut -d ' ' -f 1,3-")).stdout


@case("many channels")
async def many_channels(site, client):
    async def one(number):
        done = await client.run(f"read -r line; echo $line {number}; exit {number}", input="number\n")
        return done.stdout, done.exit_status

    said = await asyncio.gather(*map(one, range(100)))
    return said == [(f"number {number}\n", number) for number in range(100)]


@case("rekey")
async def rekey(site, _):
    async with connect(site, rekey_bytes="256k") as client:
        sent = os.urandom(BULK)
        done = await client.run("cat", input=sent, encoding=None)
        return same(sent, done.stdout)


@case("compression")
async def compression(site, _):
    async with connect(site, compression_algs=["zlib@openssh.com"]) as client:
        sent = "compress me " * 100_000
        done = await client.run("tee /dev/stderr", input=sent)
        used = client.get_extra_info("send_compression"), client.get_extra_info("recv_compression")
        return [used, same(sent, done.stdout), same(sent, done.stderr)]


def algorithms(option, names):
    """A case that logs in and moves data with each of these alone."""

    @case(option)
    async def each(site, _):
        seen = {}
        for name in names:
            try:
                async with connect(site, **{option: [name]}) as client:
                    sent = os.urandom(100_000)
                    done = await client.run("cat", input=sent, encoding=None)
                    seen[name] = same(sent, done.stdout)
            except (asyncssh.Error, OSError) as fault:
                seen[name] = str(fault)
        wrong = {name: saw for name, saw in seen.items() if saw != "same 100000"}
        return wrong or f"all {len(seen)}"


algorithms("kex_algs", [
    "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384", "ecdh-sha2-nistp521", "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512",
])
algorithms("encryption_algs", [
    "chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr",
    "aes192-ctr", "aes256-ctr",
])
algorithms("mac_algs", ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"])


@case("unknown subsystem")
async def unknown_subsystem(site, client):
    try:
        await client.create_process(subsystem="no-such-subsystem")
    except asyncssh.ChannelOpenError as fault:
        return [fault.code, fault.reason]


@case("x11")
async def x11(site, client):
    done = await client.run("echo ${DISPLAY%:*}; xauth list | wc -l", x11_forwarding="ignore_failure", x11_display=":9")
    return done.stdout


@case("wrong key")
async def wrong_key(site, _):
    try:
        async with connect(site, client_keys=[site.wrong_key]):
            return "let in"
    except asyncssh.Error as fault:
        return f"{type(fault).__name__}: {fault}".replace(site.host, "HOST")


main(run)
