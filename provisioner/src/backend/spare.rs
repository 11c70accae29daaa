//! What a spare box is told when it becomes somebody's: one connection to a port of its own, on which it makes the
//! user, writes what there is to complain about, and at last `exit` and the exit code.
//!
//! The engine could run the same program in the box, but takes longer for that than the program does. Only the host
//! reaches the port, and it is closed from then on: see `boxgate-claim.socket` in the box's image.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Ran;

/// One of the ports that are for experiments (RFC 4727 §6).
pub(super) const PORT: u16 = 1021;
/// Many times what making a user takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of what the box says.
const OUTPUT_MAX: u64 = 4096;

pub(super) async fn move_in(address: SocketAddr) -> Option<Ran> {
    timeout(PATIENCE, hear(address)).await.ok()?.ok()?
}

/// None when the box hung up in the middle.
async fn hear(address: SocketAddr) -> io::Result<Option<Ran>> {
    let stream = TcpStream::connect(address).await?;
    let mut lines = BufReader::new(stream.take(OUTPUT_MAX)).split(b'\n');
    let mut output = Vec::new();
    while let Some(line) = lines.next_segment().await? {
        if let Some(exit_code) = exit_code(&line) {
            return Ok(Some(Ran { exit_code, output }));
        }
        output.extend(line);
        output.push(b'\n');
    }
    Ok(None)
}

fn exit_code(line: &[u8]) -> Option<i64> {
    str::from_utf8(line).ok()?.strip_prefix("exit ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[rstest]
    #[case("exit 0\n", Some((0, "")))]
    #[case("boxgate: no such shell\nusing bash\nexit 0\n", Some((0, "boxgate: no such shell\nusing bash\n")))]
    #[case("uid 1000 is taken\nexit 1\n", Some((1, "uid 1000 is taken\n")))]
    #[case("exit strategy\n", None)]
    #[case("", None)]
    #[tokio::test]
    async fn what_a_box_says(#[case] says: &'static str, #[case] expected: Option<(i64, &str)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { listener.accept().await.unwrap().0.write_all(says.as_bytes()).await });
        let ran = expected.map(|(exit_code, output)| Ran { exit_code, output: output.into() });
        assert_eq!(move_in(address).await, ran);
    }

    #[tokio::test]
    async fn more_than_enough_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
        });
        assert_eq!(move_in(address).await, None);
    }

    #[tokio::test]
    async fn a_box_that_does_not_listen() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(move_in(address).await, None);
    }
}
