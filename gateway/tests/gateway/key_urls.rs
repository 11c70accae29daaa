//! Keys behind URLs, from a local HTTPS server whose authority the gateway is told to trust.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use crate::support::{Answer, Gateway, keygen};

/// A web server that answers whatever the test says, and counts.
struct Web {
    port: u16,
    response: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
}

impl Web {
    /// Its authority's certificate is written to `DIR/web-ca.pem`.
    async fn start(dir: &TempDir) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(dir.path().join("web-ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = own.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = Self {
            port: listener.local_addr().unwrap().port(),
            response: Arc::default(),
            requests: Arc::default(),
        };
        web.says(200, "");
        let (response, requests) = (Arc::clone(&web.response), Arc::clone(&web.requests));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 2048];
                if tls.read(&mut request).await.is_ok() {
                    let response = response.lock().unwrap().clone();
                    requests.fetch_add(1, SeqCst);
                    // The client may have had enough of a long answer.
                    drop(tls.write_all(response.as_bytes()).await);
                    drop(tls.shutdown().await);
                }
            }
        });
        web
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/alice.keys", self.port)
    }

    fn says(&self, status: u16, body: &str) {
        self.says_with(status, "", body);
    }

    fn says_with(&self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        *self.response.lock().unwrap() = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
        );
    }

    /// Waits until it was asked twice more: the first answer was begun before the call, perhaps.
    async fn asked_again(&self) {
        let before = self.requests.load(SeqCst);
        timeout(Duration::from_secs(20), async {
            while self.requests.load(SeqCst) < before + 2 {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
    }
}

async fn key_in(dir: &TempDir, name: &str) -> String {
    keygen(&dir.path().join(name), &[]).await;
    fs::read_to_string(dir.path().join(format!("{name}.pub"))).unwrap()
}

fn settings(web: &Web) -> String {
    format!("key_url_refresh = \"1s\"\nkey_url_ca_file = \"DIR/web-ca.pem\"\nkey_urls = [\"{}\"]", web.url())
}

#[tokio::test]
async fn what_the_server_said_last_counts() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::start(&dir).await;
    let key = key_in(&dir, "published").await;
    web.says(200, &key);
    let gateway = Gateway::start_in(dir, &settings(&web), Answer::the_box()).await;
    let gets_in = async || gateway.run_with("published", &[], "true").await.status.success();
    web.asked_again().await;
    assert!(gets_in().await);

    // Trouble changes nothing: an error, a page that is no list, too much, a way out of HTTPS.
    let too_long = format!("{key}{}", "# x\n".repeat(100_000));
    for (status, body) in [(500, key.as_str()), (200, "<html>maintenance</html>"), (200, &too_long)] {
        web.says(status, body);
        web.asked_again().await;
        assert!(gets_in().await, "{status}");
    }
    web.says_with(302, "Location: http://localhost:1/alice.keys\r\n", "");
    web.asked_again().await;
    assert!(gets_in().await);
    web.says_with(302, &format!("Location: {}\r\n", web.url()), "");
    web.asked_again().await;
    assert!(gets_in().await);

    // A list without the key, and no list at all, are answers.
    for status in [200, 404] {
        web.says(status, "");
        web.asked_again().await;
        assert!(!gets_in().await, "{status}");
        web.says(200, &key);
        web.asked_again().await;
        assert!(gets_in().await);
    }
}

#[tokio::test]
async fn the_last_answer_outlives_a_restart_without_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::start(&dir).await;
    let key = key_in(&dir, "published").await;
    // What a gateway before this one kept, of this URL and of another.
    fs::create_dir_all(dir.path().join("gateway/key_urls")).unwrap();
    let kept = dir.path().join("gateway/key_urls/alice-0.keys");
    fs::write(&kept, format!("# {}\n{key}", web.url())).unwrap();
    web.says(503, "");
    let gateway = Gateway::start_in(dir, &settings(&web), Answer::the_box()).await;
    assert!(gateway.run_with("published", &[], "true").await.status.success());
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::start(&dir).await;
    let key = key_in(&dir, "published").await;
    web.says(200, &key);
    // Another authority of the same name.
    drop(Web::start(&dir).await);
    let gateway = Gateway::start_in(dir, &settings(&web), Answer::the_box()).await;
    sleep(Duration::from_secs(2)).await;
    assert!(!gateway.run_with("published", &[], "true").await.status.success());
    assert_eq!(web.requests.load(SeqCst), 0);
}
