//! On this side of a forward or a copy: free ports, a small web server, files.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

/// A port that was free a moment ago, for programs that cannot choose one themselves.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Bytes that no two tests share and nothing compresses.
pub fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// Serves `body` over HTTP on a port of this host, which it returns, until the test program ends.
pub fn serve_http(body: &[u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = body.to_vec();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(&stream, &stream, &body);
        }
    });
    port
}

/// The same on a Unix socket.
pub fn serve_http_at(socket: &Path, body: &[u8]) {
    let listener = UnixListener::bind(socket).unwrap();
    let body = body.to_vec();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(&stream, &stream, &body);
        }
    });
}

fn answer(request: impl Read, mut reply: impl Write, body: &[u8]) {
    let head_ended = |line: &Result<String, _>| !matches!(line, Ok(line) if !line.is_empty());
    BufReader::new(request).lines().find(head_ended);
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    // A client that left early is the story's business, not the server's.
    drop(reply.write_all(head.as_bytes()).and_then(|()| reply.write_all(body)));
}

/// A directory of files as people have them: empty, large, deep, with odd names and modes.
pub fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("deep/er/still")).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("with space and ünïcode"), "odd\n").unwrap();
    fs::write(root.join("deep/er/still/small"), "small\n").unwrap();
    fs::write(root.join("large"), random_bytes(3_000_000)).unwrap();
}
