//! Whether an SSH server answers: one connection, up to its identification string (RFC 4253 §4.2).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A box is on this host: what takes longer than this is not answering.
const PATIENCE: Duration = Duration::from_secs(2);
const BANNER: &[u8] = b"SSH-2.0-";

pub(super) async fn answers(address: SocketAddr) -> bool {
    matches!(timeout(PATIENCE, says_banner(address)).await, Ok(Ok(true)))
}

async fn says_banner(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let mut banner = [0; BANNER.len()];
    stream.read_exact(&mut banner).await?;
    Ok(banner == BANNER)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[rstest]
    #[case(b"SSH-2.0-OpenSSH_9.6\r\n", true)]
    #[case(b"HTTP/1.1 400 Bad Request\r\n", false)]
    #[case(b"SSH-", false)]
    #[case(b"", false)]
    #[tokio::test]
    async fn only_a_banner_is_an_answer(#[case] says: &'static [u8], #[case] expected: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(says).await.unwrap();
        });
        assert_eq!(answers(address).await, expected);
    }

    #[tokio::test]
    async fn nothing_listens() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(!answers(address).await);
    }
}
