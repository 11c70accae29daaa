//! The gateway's user certificate authority: how the gateway proves itself to a box, and to the lobby.
//!
//! Each login is given a certificate of its own, good for minutes, for one Unix user, whose key id says who
//! came with which key from where: the box's own log then tells the same (OpenSSH `PROTOCOL.certkeys`). What her
//! key may not do is not among its extensions, and a command that her key forces is a critical option of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Algorithm, Certificate, PrivateKey};

use crate::authenticate::Restrictions;
use crate::key_file::{KeyFileError, load_or_make};
use crate::resolve::Principal;

/// How long a certificate may be used to begin a connection; it does not end one that began.
const VALID_FOR: Duration = Duration::from_secs(300);
/// The clocks of host and box are one clock, but certificates have whole seconds.
const CLOCK_SLACK: Duration = Duration::from_secs(60);
/// Signs for boxes that trust it.
#[derive(Debug)]
pub struct Authority {
    key: PrivateKey,
    /// What the certificates certify. Made anew at each start and never written anywhere.
    login_key: Arc<PrivateKey>,
}

impl Authority {
    /// Reads the authority's key from `dir`, or makes it there.
    ///
    /// # Errors
    /// A [`KeyFileError`] when there is no such key to be had.
    pub fn load_or_make(dir: &Path) -> Result<Self, KeyFileError> {
        let make = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519);
        let key = load_or_make(&dir.join("user_ca_ed25519_key"), &Algorithm::Ed25519, make)?;
        let login_key =
            make().map_err(|source| KeyFileError::Make { algorithm: Algorithm::Ed25519, source })?;
        Ok(Self { key, login_key: Arc::new(login_key) })
    }

    /// The line that a box's `TrustedUserCAKeys` holds.
    ///
    /// # Errors
    /// None in practice: the key was made or parsed by the same library.
    pub fn public_line(&self) -> Result<String, ssh_key::Error> {
        self.key.public_key().to_openssh()
    }

    /// A certificate for `unix_user` that says who comes and allows what her key allows, with the key it certifies.
    ///
    /// # Errors
    /// A field that does not fit a certificate.
    pub fn mint(
        &self,
        unix_user: &str,
        principal: &Principal,
    ) -> Result<(Arc<PrivateKey>, Certificate), ssh_key::Error> {
        self.sign(unix_user, principal.to_string(), principal.restrictions())
    }

    /// The same for a connection that is made before anyone has come: only for whoever may do everything.
    ///
    /// # Errors
    /// A field that does not fit a certificate.
    pub fn mint_for_spare(&self, unix_user: &str) -> Result<(Arc<PrivateKey>, Certificate), ssh_key::Error> {
        let key_id = format!("{unix_user}: spare connection, the gateway's log says for whom");
        self.sign(unix_user, key_id, &Restrictions::default())
    }

    fn sign(
        &self,
        unix_user: &str,
        key_id: String,
        restrictions: &Restrictions,
    ) -> Result<(Arc<PrivateKey>, Certificate), ssh_key::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut builder = Builder::new_with_random_nonce(
            &mut rand::rng(),
            self.login_key.public_key(),
            now.saturating_sub(CLOCK_SLACK).as_secs(),
            (now + VALID_FOR).as_secs(),
        )?;
        builder.cert_type(CertType::User)?.key_id(key_id)?.valid_principal(unix_user)?;
        for permission in restrictions.permissions.iter() {
            builder.extension(permission.extension(), "")?;
        }
        if let Some(command) = &restrictions.force_command {
            builder.critical_option("force-command", command.as_str())?;
        }
        Ok((Arc::clone(&self.login_key), builder.sign(&self.key)?))
    }
}
