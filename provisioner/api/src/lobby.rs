//! Where the provisioner's own SSH server answers, to whom people say what they want of their boxes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Asks for the lobby. Whoever may ask may also say whose word counts there: the lobby believes the certificates of
/// this authority from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyRequest {
    /// Public key of the gateway's user CA as one OpenSSH line.
    pub user_ca: String,
}

/// Where the lobby answers until the provisioner is restarted: ask again for each login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyEndpoint {
    /// A Unix socket for the gateway's user and root. The SSH user is the login name of whoever comes, and so is
    /// the principal of the certificate.
    pub socket: PathBuf,
    /// The lobby's host key as one OpenSSH public key line, to be pinned.
    pub host_key: String,
}
