//! The host keys that a client learns are the gateway's (OpenSSH `PROTOCOL` §2.5, `UpdateHostKeys`).
//!
//! ```text
//!  client                          gateway                          box
//!    │ ◄── hostkeys-00 (its own) ──── │ ◄──── hostkeys-00 (the box's) ─ │
//!    │ ─── hostkeys-prove-00 ───────► │ ─ a request that it refuses ──► │
//!    │ ◄── the gateway's proof ────── │ ◄──────────── REQUEST_FAILURE ─ │
//! ```
//!
//! Replies to global requests come in the order of the requests (RFC 4254 §4), and the box answers all others.
//! So the proof takes the place of the box's reply to a request that stands where the client's stood.
//!
//! Invariant: per connection at most [`PROOFS`] proofs are made, and what waits is bounded by the requests
//! that the box has not answered, which are in the pipe's and the sockets' buffers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use russh::RawVerdict;
use signature::Signer;
use ssh_key::PrivateKey;
use ssh_key::encoding::{Decode, Encode};

/// Message numbers (RFC 4254 §4).
const GLOBAL_REQUEST: u8 = 80;
const REQUEST_SUCCESS: u8 = 81;
const REQUEST_FAILURE: u8 = 82;

const ANNOUNCEMENT: &str = "hostkeys-00@openssh.com";
const PROVE: &str = "hostkeys-prove-00@openssh.com";
/// No server knows this request, so each refuses it without a word in its log.
const REFUSED_BY_ALL: &str = "placeholder@boxgate";

/// Proofs per connection: a client asks once. Later requests cross, and the box refuses them, as it should.
const PROOFS: u8 = 4;

/// Identifies one connection (RFC 4253 §7.2); known once its first key exchange is done.
pub type SessionId = Arc<OnceLock<Vec<u8>>>;

/// The gateway's host keys, and the message that announces them.
#[derive(Debug)]
pub struct HostKeys {
    keys: Vec<PrivateKey>,
    announcement: Bytes,
}

impl HostKeys {
    /// # Errors
    /// A key that cannot be written in the SSH format, which those that were loaded can.
    pub fn new(keys: Vec<PrivateKey>) -> Result<Self, ssh_key::Error> {
        let mut announcement = vec![GLOBAL_REQUEST];
        ANNOUNCEMENT.encode(&mut announcement)?;
        announcement.push(0); // No reply is wanted.
        for key in &keys {
            key.public_key().to_bytes()?.encode(&mut announcement)?;
        }
        Ok(Self { keys, announcement: announcement.into() })
    }

    /// The reply to `request`, what came after `want_reply`: a signature for each key in it (the RSA key's with
    /// SHA-512). All must be ours.
    fn prove(&self, mut request: &[u8], session_id: &[u8]) -> Result<Bytes, ssh_key::Error> {
        let mut reply = vec![REQUEST_SUCCESS];
        // More keys than there are would be the same ones again.
        for _ in 0..self.keys.len() {
            let blob = Vec::<u8>::decode(&mut request)?;
            let key = self.keys.iter().find(|key| key.public_key().to_bytes().is_ok_and(|own| own == blob));
            let key = key.ok_or(ssh_key::Error::PublicKey)?;
            let mut signed = Vec::new();
            PROVE.encode(&mut signed)?;
            session_id.encode(&mut signed)?;
            blob.encode(&mut signed)?;
            let signature: ssh_key::Signature = key.try_sign(&signed)?;
            Vec::<u8>::try_from(signature)?.encode(&mut reply)?;
            if request.is_empty() {
                return Ok(reply.into());
            }
        }
        Err(ssh_key::Error::PublicKey)
    }
}

/// The next replies that the box owes the client.
#[derive(Debug)]
enum Owed {
    /// So many cross as they come.
    Its(usize),
    /// This one takes the place of what comes.
    Ours(Bytes),
}

/// What one connection has asked and not been told yet.
#[derive(Debug)]
pub(super) struct Requests {
    host_keys: Arc<HostKeys>,
    session_id: SessionId,
    owed: Mutex<VecDeque<Owed>>,
    proofs: Mutex<u8>,
}

impl Requests {
    pub(super) fn new(host_keys: &Arc<HostKeys>, session_id: &SessionId) -> Self {
        Self {
            host_keys: Arc::clone(host_keys),
            session_id: Arc::clone(session_id),
            owed: Mutex::default(),
            proofs: Mutex::new(PROOFS),
        }
    }

    /// What becomes of a message of the client.
    pub(super) fn asked(&self, message: &[u8]) -> RawVerdict {
        match GlobalRequest::parse(message) {
            Some(GlobalRequest { name, want_reply: true, rest }) => {
                let proof = if name == PROVE { self.proof(rest) } else { None };
                let replaced = proof.is_some();
                self.owe(proof);
                if replaced { RawVerdict::Replace(placeholder()) } else { RawVerdict::Forward }
            }
            _ => RawVerdict::Forward,
        }
    }

    /// What becomes of a message of the box.
    pub(super) fn answered(&self, message: &[u8]) -> RawVerdict {
        match message.first() {
            Some(&GLOBAL_REQUEST) => match GlobalRequest::parse(message) {
                Some(GlobalRequest { name: ANNOUNCEMENT, .. }) => {
                    RawVerdict::Replace(self.host_keys.announcement.clone())
                }
                _ => RawVerdict::Forward,
            },
            Some(&(REQUEST_SUCCESS | REQUEST_FAILURE)) => self.replied(),
            _ => RawVerdict::Forward,
        }
    }

    /// `None` when there is none to be made.
    fn proof(&self, keys: &[u8]) -> Option<Bytes> {
        let session_id = self.session_id.get()?;
        let mut left = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(1)?;
        let refusal = Bytes::from_static(&[REQUEST_FAILURE]);
        Some(self.host_keys.prove(keys, session_id).unwrap_or(refusal))
    }

    fn owe(&self, proof: Option<Bytes>) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        match (proof, owed.back_mut()) {
            (Some(proof), _) => owed.push_back(Owed::Ours(proof)),
            (None, Some(Owed::Its(count))) => *count += 1,
            (None, _) => owed.push_back(Owed::Its(1)),
        }
    }

    fn replied(&self) -> RawVerdict {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        match owed.pop_front() {
            Some(Owed::Ours(proof)) => RawVerdict::Replace(proof),
            Some(Owed::Its(count @ 2..)) => {
                owed.push_front(Owed::Its(count - 1));
                RawVerdict::Forward
            }
            // A reply to nothing is the client's to judge.
            Some(Owed::Its(_)) | None => RawVerdict::Forward,
        }
    }
}

/// A global request that wants a reply, and gets the box's refusal.
fn placeholder() -> Bytes {
    let length = u8::try_from(REFUSED_BY_ALL.len()).unwrap_or_default();
    [&[GLOBAL_REQUEST, 0, 0, 0, length], REFUSED_BY_ALL.as_bytes(), &[1]].concat().into()
}

struct GlobalRequest<'a> {
    name: &'a str,
    want_reply: bool,
    rest: &'a [u8],
}

impl<'a> GlobalRequest<'a> {
    /// `None` for anything else, and for a request that is cut short.
    fn parse(message: &'a [u8]) -> Option<Self> {
        let (&GLOBAL_REQUEST, rest) = message.split_first()? else { return None };
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (name, rest) = rest.split_at_checked(length)?;
        let (&want_reply, rest) = rest.split_first()?;
        Some(Self { name: str::from_utf8(name).ok()?, want_reply: want_reply != 0, rest })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use signature::Verifier;
    use ssh_key::{Algorithm, EcdsaCurve, Signature};

    use super::*;

    const SESSION: &[u8] = b"session identifier";

    fn request(name: &str, want_reply: bool, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![GLOBAL_REQUEST];
        name.encode(&mut message).unwrap();
        message.push(u8::from(want_reply));
        message.extend_from_slice(rest);
        message
    }

    fn host_keys() -> Arc<HostKeys> {
        let algorithms = [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }];
        let keys = algorithms.map(|algorithm| PrivateKey::random(&mut rand::rng(), algorithm).unwrap());
        Arc::new(HostKeys::new(keys.into()).unwrap())
    }

    fn requests(host_keys: &Arc<HostKeys>) -> Requests {
        let session_id = SessionId::default();
        session_id.set(SESSION.to_vec()).unwrap();
        Requests::new(host_keys, &session_id)
    }

    fn blobs(keys: &HostKeys) -> Vec<u8> {
        let mut blobs = Vec::new();
        for key in &keys.keys {
            key.public_key().to_bytes().unwrap().encode(&mut blobs).unwrap();
        }
        blobs
    }

    #[rstest]
    #[case(request("hostkeys-00@openssh.com", false, b"\0\0\0\x01x"), true)]
    #[case(request("hostkeys-prove-00@openssh.com", true, b""), false)]
    #[case(request("tcpip-forward", true, b""), false)]
    #[case(vec![90, 0, 0, 0, 23], false)]
    #[case(vec![GLOBAL_REQUEST, 255, 255, 255, 255], false)]
    #[case(vec![GLOBAL_REQUEST, 0, 0], false)]
    #[case(vec![], false)]
    fn the_boxs_announcement_becomes_the_gateways(#[case] message: Vec<u8>, #[case] replaced: bool) {
        let keys = host_keys();
        let expected = if replaced {
            RawVerdict::Replace(request(ANNOUNCEMENT, false, &blobs(&keys)).into())
        } else {
            RawVerdict::Forward
        };
        assert_eq!(requests(&keys).answered(&message), expected);
    }

    #[test]
    fn keys_are_proven_in_the_order_of_the_requests() {
        let keys = host_keys();
        let requests = requests(&keys);
        let forward = request("tcpip-forward", true, b"\0\0\0\0\0\0\0\0");
        assert_eq!(requests.asked(&forward), RawVerdict::Forward);
        assert_eq!(requests.asked(&request("keepalive", false, b"")), RawVerdict::Forward);
        assert_eq!(requests.asked(&forward), RawVerdict::Forward);
        let prove = request(PROVE, true, &blobs(&keys));
        assert_eq!(requests.asked(&prove), RawVerdict::Replace(request(REFUSED_BY_ALL, true, b"").into()));
        assert_eq!(requests.asked(&forward), RawVerdict::Forward);

        assert_eq!(requests.answered(&[REQUEST_SUCCESS, 0, 0, 0, 80]), RawVerdict::Forward);
        assert_eq!(requests.answered(&[94, 1]), RawVerdict::Forward);
        assert_eq!(requests.answered(&[REQUEST_FAILURE]), RawVerdict::Forward);
        let RawVerdict::Replace(proof) = requests.answered(&[REQUEST_FAILURE]) else { panic!("no proof") };
        assert_eq!(requests.answered(&[REQUEST_SUCCESS]), RawVerdict::Forward);
        assert_eq!(requests.answered(&[REQUEST_SUCCESS]), RawVerdict::Forward, "one too many is not ours");

        assert_eq!(proof[0], REQUEST_SUCCESS);
        let mut signatures = &proof[1..];
        for key in &keys.keys {
            let signature = Vec::<u8>::decode(&mut signatures).unwrap();
            let signature = Signature::try_from(&signature[..]).unwrap();
            let mut signed = Vec::new();
            PROVE.encode(&mut signed).unwrap();
            SESSION.encode(&mut signed).unwrap();
            key.public_key().to_bytes().unwrap().encode(&mut signed).unwrap();
            key.public_key().key_data().verify(&signed, &signature).unwrap();
        }
        assert!(signatures.is_empty());
    }

    #[test]
    fn another_key_is_not_proven_and_proofs_are_few() {
        let keys = host_keys();
        let requests = requests(&keys);
        for foreign in [&blobs(&host_keys())[..], b"", b"\xff\xff\xff\xff", &blobs(&keys).repeat(2)] {
            let asked = requests.asked(&request(PROVE, true, foreign));
            assert_eq!(asked, RawVerdict::Replace(placeholder()));
            let refused = RawVerdict::Replace(Bytes::from_static(&[REQUEST_FAILURE]));
            assert_eq!(requests.answered(&[REQUEST_FAILURE]), refused);
        }
        let fifth = request(PROVE, true, &blobs(&keys));
        assert_eq!(requests.asked(&fifth), RawVerdict::Forward, "the box refuses it");
        assert_eq!(requests.answered(&[REQUEST_FAILURE]), RawVerdict::Forward);
    }
}
