//! Where the lobby is, how to know it, and whose certificates it believes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use boxgate_provisioner_api::LobbyEndpoint;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, PrivateKey, PublicKey};

/// Authorities that are believed at once: gateways of one user, of which there is nearly always one.
const AUTHORITIES_MAX: usize = 16;

/// What the API tells a gateway of the lobby, and is told by it.
#[derive(Debug, Clone)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: LobbyEndpoint,
    /// The one that was named last comes last.
    authorities: Mutex<VecDeque<KeyData>>,
}

impl Door {
    /// The door, and the host key behind it: a new one with each start, since it is asked for with each login.
    pub(crate) fn make(socket: PathBuf) -> Result<(Self, PrivateKey), ssh_key::Error> {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        let endpoint = LobbyEndpoint { socket, host_key: key.public_key().to_openssh()? };
        Ok((Self(Arc::new(Inner { endpoint, authorities: Mutex::default() })), key))
    }

    /// Believes this authority's certificates from now on, and tells where. Of too many authorities the one that was
    /// named longest ago is forgotten.
    #[must_use]
    pub fn open_to(&self, user_ca: &PublicKey) -> LobbyEndpoint {
        let mut authorities = self.0.authorities.lock().unwrap_or_else(PoisonError::into_inner);
        authorities.retain(|known| known != user_ca.key_data());
        authorities.push_back(user_ca.key_data().clone());
        if authorities.len() > AUTHORITIES_MAX {
            authorities.pop_front();
        }
        self.0.endpoint.clone()
    }

    pub(crate) fn believes(&self, authority: &KeyData) -> bool {
        self.0.authorities.lock().unwrap_or_else(PoisonError::into_inner).contains(authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_of_the_past_are_forgotten_and_the_present_one_is_not() {
        let key = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone();
        let (door, host_key) = Door::make("/run/lobby.sock".into()).unwrap();
        let (present, past) = (key(), key());
        assert!(!door.believes(present.key_data()));
        drop(door.open_to(&past));
        for _ in 0..AUTHORITIES_MAX {
            drop(door.open_to(&key()));
            let endpoint = door.open_to(&present);
            assert_eq!(endpoint.host_key, host_key.public_key().to_openssh().unwrap());
        }
        assert!(door.believes(present.key_data()));
        assert!(!door.believes(past.key_data()));
    }
}
