//! An agent that holds a security key: what a FIDO authenticator would sign, it signs with a key of its own, under
//! the flags that the test wants (OpenSSH `PROTOCOL.agent` and `PROTOCOL.u2f`). The client is the real `ssh`.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use russh::keys::signature::Signer;
use sha2::{Digest, Sha256};
use ssh_key::public::{EcdsaPublicKey, KeyData, SkEcdsaSha2NistP256, SkEd25519};
use ssh_key::{Algorithm, EcdsaCurve, PrivateKey, PublicKey, Signature};
use tokio::process::Command;

const APPLICATION: &str = "ssh:";
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// Longest message that the client sends.
const MAX_MESSAGE: u32 = 64 * 1024;

/// A security key made of software.
#[derive(Debug, Clone)]
pub(crate) struct SecurityKey {
    secret: PrivateKey,
    public: PublicKey,
}

impl SecurityKey {
    pub(crate) fn ed25519() -> Self {
        let secret = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let key = *secret.public_key().key_data().ed25519().unwrap();
        Self { secret, public: KeyData::SkEd25519(SkEd25519::new(key, APPLICATION)).into() }
    }

    pub(crate) fn ecdsa() -> Self {
        let algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let secret = PrivateKey::random(&mut rand::rng(), algorithm).unwrap();
        let Some(EcdsaPublicKey::NistP256(point)) = secret.public_key().key_data().ecdsa() else {
            panic!("not a P-256 key");
        };
        let key = SkEcdsaSha2NistP256::new(*point, APPLICATION);
        Self { public: KeyData::SkEcdsaSha2NistP256(key).into(), secret }
    }

    pub(crate) fn public_line(&self) -> String {
        self.public.to_openssh().unwrap()
    }

    fn sign(&self, message: &[u8], flags: u8) -> Vec<u8> {
        let trailer = [flags, 0, 0, 0, 9];
        let statement = [&Sha256::digest(APPLICATION)[..], &trailer, &Sha256::digest(message)].concat();
        let signed: Signature = self.secret.try_sign(&statement).unwrap();
        [&string(self.public.algorithm().as_str().as_bytes())[..], &string(signed.as_bytes()), &trailer]
            .concat()
    }
}

/// A running agent; its thread ends with the test's process.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
    asked: Arc<AtomicUsize>,
}

impl Agent {
    /// With `flags` it signs, without it refuses to. The public key is put beside, as
    /// `NAME.pub`: `ssh -i` of that uses the agent's.
    pub(crate) fn start(socket: &Path, key: SecurityKey, flags: Option<u8>) -> Self {
        fs::write(socket.with_extension("pub"), key.public_line()).unwrap();
        let socket = socket.with_extension("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away ends its own connection alone.
                drop(serve(stream, &key, flags, &counter));
            }
        });
        Self { socket, asked }
    }

    /// Signatures that were asked for.
    pub(crate) fn signatures(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// Lets a client use the agent.
    pub(crate) fn use_in<'a>(&self, ssh: &'a mut Command) -> &'a mut Command {
        ssh.env("SSH_AUTH_SOCK", &self.socket)
    }
}

fn serve(
    mut stream: UnixStream,
    key: &SecurityKey,
    flags: Option<u8>,
    asked: &AtomicUsize,
) -> io::Result<()> {
    loop {
        let request = read_string(&mut stream)?;
        let blob = key.public.to_bytes().unwrap();
        let answer = match request.split_first() {
            Some((&REQUEST_IDENTITIES, _)) => {
                [&[IDENTITIES_ANSWER][..], &1_u32.to_be_bytes(), &string(&blob), &string(b"sk")].concat()
            }
            Some((&SIGN_REQUEST, mut rest)) => {
                asked.fetch_add(1, SeqCst);
                read_string(&mut rest)?;
                let message = read_string(&mut rest)?;
                match flags {
                    Some(flags) => [&[SIGN_RESPONSE][..], &string(&key.sign(&message, flags))].concat(),
                    None => vec![FAILURE],
                }
            }
            _ => vec![FAILURE],
        };
        stream.write_all(&string(&answer))?;
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn read_string(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
