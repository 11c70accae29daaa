//! A key becomes a [`Principal`], or nothing does. Pure look-ups: a key that is only offered costs no more
//! than this, and a stranger's name costs as much as a wrong key.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use boxgate_config::{DevBoxId, LoginName, User};
use ssh_key::{HashAlg, PublicKey};

use crate::resolve::Principal;

/// Who may log in.
#[derive(Debug)]
pub struct Users(BTreeMap<LoginName, User>);

impl Users {
    #[must_use]
    pub fn new(users: BTreeMap<LoginName, User>) -> Self {
        Self(users)
    }

    /// The principal that `key` makes of a client who asks for `login` (what stands before the `@`). The
    /// caller must have verified the key's signature before it does anything with the principal.
    #[must_use]
    pub fn authenticate(&self, login: &str, key: &PublicKey, peer: SocketAddr) -> Option<Principal> {
        let owner = DevBoxId::parse(login).ok()?.owner;
        let user = self.0.get(&owner)?;
        // The comment is no part of the key (RFC 4253 §6.6).
        let known = user.keys.iter().any(|known| known.public_key().key_data() == key.key_data());
        known.then(|| Principal::new(owner, key.fingerprint(HashAlg::Sha256), peer))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use boxgate_config::Config;
    use rstest::rstest;
    use ssh_key::{Algorithm, PrivateKey};

    use super::*;

    fn key() -> PublicKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone()
    }

    #[rstest]
    #[case("alice", true)]
    #[case("alice+web", true)]
    #[case("bob", false)]
    #[case("mallory", false)]
    #[case("", false)]
    #[case("alice\0", false)]
    #[case("ALICE", false)]
    #[case("../alice", false)]
    fn only_the_owner_of_a_key_is_known(#[case] login: &str, #[case] known: bool) {
        let (hers, his) = (key(), key());
        let text = format!(
            "[users.alice]\nkeys = [\"{} a comment\"]\n[users.bob]\nkeys = [\"{}\"]\n",
            hers.to_openssh().unwrap(),
            his.to_openssh().unwrap()
        );
        let users = Users::new(Config::parse(Path::new("boxgate.toml"), &text).unwrap().users);
        let peer = SocketAddr::from(([127, 0, 0, 1], 4711));
        assert_eq!(users.authenticate(login, &hers, peer).is_some(), known);
        assert!(users.authenticate(login, &key(), peer).is_none());
    }
}
