//! Requests over `ssh -L`: each opens a connection, sends a request, and reads an answer to its end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use boxgate_tests::local::free_port;
use boxgate_tests::{Stopwatch, until};

use super::{Context, find, milliseconds, take_turns};
use crate::client::{Background, Master};
use crate::figure::{Figure, Goal, Statistic};
use crate::guard;
use crate::site::{Cipher, Peer};

const CIPHER: Cipher = Cipher::Aes128Gcm;
const SERVER_PORT: u16 = 8199;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of the answer's body.
const BODY: usize = 4096;
const WARM_UP: usize = 3;

/// As small as a web server gets, so that little but the way to it is measured. It ends with its client.
fn server() -> String {
    format!(
        "exec python3 -c '\n\
         import os, socket, threading\n\
         threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()\n\
         listener = socket.create_server((\"127.0.0.1\", {SERVER_PORT}), backlog=128)\n\
         answer = b\"HTTP/1.0 200 OK\\r\\nContent-Length: {BODY}\\r\\n\\r\\n\" + b\"b\" * {BODY}\n\
         while True:\n\
        \x20   peer, _ = listener.accept()\n\
        \x20   request = b\"\"\n\
        \x20   while not request.endswith(b\"\\r\\n\\r\\n\"):\n\
        \x20       part = peer.recv(4096)\n\
        \x20       if not part: break\n\
        \x20       request += part\n\
        \x20   peer.sendall(answer)\n\
        \x20   peer.close()\n\
         '"
    )
}

pub(super) fn requests(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let what = "a new connection over `ssh -L`, a request and its answer of 4 KiB";
    let mut figure = Figure::new("forward", "ms", what, &Peer::USUAL).with_p99();
    let masters = Master::open_all(site, &Peer::USUAL, CIPHER);
    let mut ssh = find(&masters, Peer::Direct).ssh(&[]);
    ssh.arg(server());
    let mut server = Background::start(site, ssh, std::process::Stdio::piped());
    let mut forwards: Vec<_> = masters.iter().map(|master| (master.peer, forward(master))).collect();
    until("the web server in the box", ANSWER_WITHIN, || {
        server.assert_running("the web server");
        request(forwards[0].1)
    });
    take_turns(WARM_UP, &mut forwards, |_, (_, port)| drop(request(*port)));
    take_turns(plan.requests, &mut forwards, |_, (peer, port)| {
        guard::step();
        let watch = Stopwatch::start();
        request(*port).unwrap();
        figure.push(*peer, milliseconds(watch.elapsed()));
    });
    vec![figure.judged(Statistic::Median, &[Goal::AtMostTimes(1.5, Peer::Direct)])]
}

/// Lets a connection forward a port of ours to the server.
fn forward(master: &Master) -> u16 {
    let port = free_port();
    let forward = format!("127.0.0.1:{port}:127.0.0.1:{SERVER_PORT}");
    let status = master.ssh(&["-O", "forward", "-L", &forward]).status().unwrap();
    assert!(status.success(), "{} forwards", master.peer.name());
    port
}

/// The whole answer must come.
fn request(port: u16) -> Result<(), String> {
    let fetch = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    };
    let answer = fetch().map_err(|fault: std::io::Error| fault.to_string())?;
    if answer.ends_with(&[b'b'; BODY]) { Ok(()) } else { Err(format!("an answer of {} bytes", answer.len())) }
}
