//! User and host certificates that `ssh-keygen` signs, with the real `ssh` and `sshd`.

use std::fs;
use std::path::Path;

use rstest::rstest;
use tokio::process::Command;

use crate::support::{Answer, Gateway, keygen, output, text};

/// Signs `DIR/NAME.pub` with `DIR/ca`.
async fn certify(dir: &Path, name: &str, options: &[&str]) {
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-s"]).arg(dir.join("ca")).args(["-I", "a test's", "-z", "7"]).args(options);
    let signed = output(sign.arg(dir.join(format!("{name}.pub")))).await;
    assert!(signed.status.success(), "{}", text(&signed.stderr));
}

/// A gateway that trusts `DIR/ca`, and a key `DIR/key` that nobody knows.
async fn gateway_with_authority(ca: &[&str]) -> Gateway {
    let dir = tempfile::tempdir().unwrap();
    keygen(&dir.path().join("ca"), ca).await;
    keygen(&dir.path().join("key"), &[]).await;
    fs::write(dir.path().join("revoked"), "").unwrap();
    let authority = fs::read_to_string(dir.path().join("ca.pub")).unwrap();
    let settings = format!("user_ca_keys = [{:?}]\nrevoked_keys = \"DIR/revoked\"", authority.trim());
    Gateway::start_in(dir, &settings, Answer::the_box()).await
}

#[rstest]
#[case(&["-n", "alice"], true)]
#[case(&["-n", "bob,alice", "-V", "-1d:+1d"], true)]
#[case(&["-n", "alice", "-O", "source-address=127.0.0.0/8"], true)]
#[case(&["-n", "alice", "-V", "-2d:-1d"], false)]
#[case(&["-n", "alice", "-V", "+1d:+2d"], false)]
#[case(&["-n", "bob"], false)]
#[case(&[], false)]
#[case(&["-n", "alice", "-O", "source-address=192.0.2.0/24"], false)]
#[case(&["-n", "alice", "-O", "critical:sudo@example.org=yes"], false)]
#[case(&["-n", "alice", "-O", "extension:sudo@example.org=yes"], true)]
#[case(&["-n", "alice", "-O", "verify-required"], false)]
#[case(&["-n", "alice", "-h"], false)]
#[tokio::test]
async fn who_gets_in_by_a_certificate(#[case] options: &[&str], #[case] expected: bool) {
    let gateway = gateway_with_authority(&[]).await;
    assert!(!gateway.run_with("key", &[], "true").await.status.success(), "the bare key lets in");
    certify(gateway.dir.path(), "key", options).await;
    let ran = gateway.run_with("key", &[], "true").await;
    assert_eq!(ran.status.success(), expected, "{}", text(&ran.stderr));
}

#[tokio::test]
async fn a_certificate_allows_what_it_says() {
    let gateway = gateway_with_authority(&[]).await;
    let terminal = ["-tt", "test -t 0 && echo terminal"];
    let dir = gateway.dir.path();

    certify(dir, "key", &["-n", "alice"]).await;
    assert!(text(&output(gateway.ssh("alice", "key").args(terminal)).await.stdout).contains("terminal"));

    certify(dir, "key", &["-n", "alice", "-O", "no-pty"]).await;
    assert!(!text(&output(gateway.ssh("alice", "key").args(terminal)).await.stdout).contains("terminal"));

    certify(dir, "key", &["-n", "alice", "-O", "force-command=echo forced $SSH_ORIGINAL_COMMAND"]).await;
    assert_eq!(text(&gateway.run_with("key", &[], "id").await.stdout), "forced id\n");
}

#[tokio::test]
async fn a_revoked_key_or_authority_is_out_at_once() {
    let gateway = gateway_with_authority(&[]).await;
    certify(gateway.dir.path(), "key", &["-n", "alice"]).await;
    for name in ["key.pub", "ca.pub"] {
        assert!(gateway.run_with("key", &[], "true").await.status.success());
        fs::copy(gateway.path(name), gateway.path("revoked")).unwrap();
        assert!(!gateway.run_with("key", &[], "true").await.status.success(), "{name} is revoked");
        fs::write(gateway.path("revoked"), "").unwrap();
    }
    // A list that cannot be read revokes everything.
    fs::remove_file(gateway.path("revoked")).unwrap();
    assert!(!gateway.run("true").await.status.success());
}

#[rstest]
#[case("rsa-sha2-512", true)]
#[case("ssh-rsa", false)]
#[tokio::test]
async fn an_authority_must_not_sign_with_sha1(#[case] algorithm: &str, #[case] expected: bool) {
    let gateway = gateway_with_authority(&["-t", "rsa", "-b", "2048"]).await;
    certify(gateway.dir.path(), "key", &["-t", algorithm, "-n", "alice"]).await;
    let anything = ["-o", "CASignatureAlgorithms=+ssh-rsa"];
    let ran = gateway.run_with("key", &anything, "true").await;
    assert_eq!(ran.status.success(), expected, "{}", text(&ran.stderr));
}

#[rstest]
#[case("cert-authority", &["-n", "alice"], true)]
#[case("cert-authority", &["-n", "ops"], false)]
#[case(r#"cert-authority,principals="dev,ops""#, &["-n", "ops"], true)]
#[case(r#"cert-authority,principals="dev,ops""#, &["-n", "alice"], false)]
#[case(r#"cert-authority,from="192.0.2.1""#, &["-n", "alice"], false)]
#[tokio::test]
async fn an_authority_of_her_own(
    #[case] options: &str,
    #[case] certificate: &[&str],
    #[case] expected: bool,
) {
    let gateway = Gateway::start(Answer::the_box()).await;
    gateway.key_of_alices("ca", options, &[]).await;
    keygen(&gateway.path("key"), &[]).await;
    certify(gateway.dir.path(), "key", certificate).await;
    let ran = gateway.run_with("key", &[], "true").await;
    assert_eq!(ran.status.success(), expected, "{}", text(&ran.stderr));
    assert!(!gateway.run_with("ca", &[], "true").await.status.success(), "the authority's own key lets in");
}

#[rstest]
#[case(&["-t", "ecdsa"])]
#[case(&["-t", "rsa", "-b", "2048"])]
#[tokio::test]
async fn certified_keys_of_other_kinds(#[case] kind: &[&str]) {
    let gateway = gateway_with_authority(&[]).await;
    keygen(&gateway.path("other"), kind).await;
    certify(gateway.dir.path(), "other", &["-n", "alice"]).await;
    let ran = gateway.run_with("other", &[], "true").await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
}

async fn gateway_with_host_certificate() -> Gateway {
    let dir = tempfile::tempdir().unwrap();
    let host_key = "gateway/ssh_host_ed25519_key";
    fs::create_dir(dir.path().join("gateway")).unwrap();
    keygen(&dir.path().join(host_key), &[]).await;
    keygen(&dir.path().join("ca"), &[]).await;
    certify(dir.path(), host_key, &["-h", "-n", "127.0.0.1"]).await;
    let settings = format!("host_certificates = [\"DIR/{host_key}-cert.pub\"]");
    Gateway::start_in(dir, &settings, Answer::the_box()).await
}

#[tokio::test]
async fn a_host_certificate_makes_known_hosts_needless() {
    let gateway = gateway_with_host_certificate().await;
    let authority = fs::read_to_string(gateway.path("ca.pub")).unwrap();
    fs::write(gateway.path("known_hosts"), format!("@cert-authority * {authority}")).unwrap();
    let ran = gateway.run_with("alice", &["-v"], "true").await;
    let said = text(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("Server host certificate: ssh-ed25519-cert-v01@openssh.com"), "{said}");
    // The client's signature was bound to the certificate, which is what it was shown.
    assert!(said.contains("publickey-hostbound@openssh.com=<0>"), "{said}");
    assert!(!said.contains("Permanently added"), "{said}");
}
