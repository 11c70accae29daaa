//! The pipe between the two authenticated hops, and what both hops agree on.
//!
//! ```text
//!              ┌───────── gateway ─────────┐
//!  client ◄──► russh server ◄─link─► russh client ◄──► sshd in the box
//!              own keys, own     │     own keys, own
//!              re-keying         │     re-keying
//!                     messages 80–127, verbatim, in order
//! ```
//!
//! Every connection-protocol message (RFC 4250 §4.1.2: 80–127) crosses as it came, so channel numbers,
//! windows, unknown requests and exit codes are between the real client and the real sshd. Host keys alone
//! are this hop's: `hostkeys` says what crosses instead.
//!
//! Invariant: a filter looks at a message in passing; it neither waits nor keeps it.

use std::borrow::Cow;
use std::sync::Arc;

use russh::{Limits, Preferred, RawLink, cipher, compression, kex, mac, raw_pair};

mod hostkeys;
pub mod tap;

use hostkeys::Requests;
pub use hostkeys::{HostKeys, SessionId};
use tap::{From, Tap};

/// Bytes that may wait between the two hops, each way: enough that neither hop idles while the other
/// writes, little enough that a thousand stalled connections do not matter.
const PIPE_BYTES: usize = 128 * 1024;

/// One connection's pipe: its two ends, and what it tells and has to be told.
#[derive(Debug)]
pub struct Pipe {
    pub client: ClientEnd,
    /// For the hop to the box.
    pub devbox: RawLink,
}

/// What the client's hop gets of a pipe.
#[derive(Debug)]
pub struct ClientEnd {
    pub link: RawLink,
    /// To be set when the client's session identifier is known: before that no host key is proven.
    pub session_id: SessionId,
    /// Counts what crosses.
    pub tap: Arc<Tap>,
}

/// A new pipe. It may be filled at the box's end before there is a client.
#[must_use]
pub fn pipe(host_keys: &Arc<HostKeys>) -> Pipe {
    let tap = Arc::<Tap>::default();
    let session_id = SessionId::default();
    let requests = Arc::new(Requests::new(host_keys, &session_id));
    let (from_client, client_requests) = (Arc::clone(&tap), Arc::clone(&requests));
    let from_devbox = Arc::clone(&tap);
    let (link, devbox) = raw_pair(
        PIPE_BYTES,
        Box::new(move |message| {
            from_client.see(From::Client, message);
            client_requests.asked(message)
        }),
        Box::new(move |message| {
            from_devbox.see(From::Devbox, message);
            requests.answered(message)
        }),
    );
    Pipe { client: ClientEnd { link, session_id, tap }, devbox }
}

/// What the gateway calls itself on both hops (RFC 4253 §4.2). OpenSSH keeps its own extensions, such as
/// `eow@openssh.com` which ends `ssh host yes | head -n 1`, for peers whose name begins with `OpenSSH`; both
/// ends of this pipe understand them. Others, npm's ssh2 and libssh among them, look for a version behind it and
/// take a peer without one for too old for OpenSSH's extensions: the one here is that of whose behaviour the
/// gateway's own hops have.
pub const IDENTIFICATION: &str = concat!("SSH-2.0-OpenSSH_9.9_Boxgate_", env!("CARGO_PKG_VERSION"));

/// When a hop begins a new key exchange of its own accord: RFC 4253 §9 says after a gigabyte or an hour.
#[must_use]
pub fn rekey_limits() -> Limits {
    Limits::default()
}

/// What the gateway offers to clients. The client's own order decides (RFC 4253 §7.1).
#[must_use]
pub fn preferred_downstream() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(&[
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::ECDH_SHA2_NISTP256,
            kex::ECDH_SHA2_NISTP384,
            kex::ECDH_SHA2_NISTP521,
            kex::DH_G16_SHA512,
            kex::DH_G18_SHA512,
            kex::DH_G14_SHA256,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        key: Cow::Borrowed(&[
            ssh_key::Algorithm::Ed25519,
            ssh_key::Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP256 },
            ssh_key::Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP384 },
            ssh_key::Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP521 },
            ssh_key::Algorithm::Rsa { hash: Some(ssh_key::HashAlg::Sha512) },
            ssh_key::Algorithm::Rsa { hash: Some(ssh_key::HashAlg::Sha256) },
        ]),
        cipher: Cow::Borrowed(&[
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_192_CTR,
            cipher::AES_128_CTR,
        ]),
        // The last two are for libssh2 before 1.11, curl's on many a machine, and for dropbear: they have no other.
        mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512]),
        compression: Cow::Borrowed(&[compression::NONE, compression::ZLIB_LEGACY]),
        ..Preferred::DEFAULT
    }
}

/// What the gateway asks of a box: the cheapest that is strong, since it is the client here and its order
/// decides, and the wire between them is this host's own.
#[must_use]
pub fn preferred_upstream() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(&[
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        key: Cow::Borrowed(&[ssh_key::Algorithm::Ed25519]),
        cipher: Cow::Borrowed(&[cipher::AES_128_GCM, cipher::CHACHA20_POLY1305]),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}
