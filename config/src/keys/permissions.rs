//! What a connection may do, as certificates say it (`ssh-keygen(1)`, `-O`; OpenSSH `PROTOCOL.certkeys`).

use std::collections::BTreeSet;

/// One thing that a key or a certificate may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    AgentForwarding,
    PortForwarding,
    Pty,
    UserRc,
    X11Forwarding,
}

impl Permission {
    pub const ALL: [Self; 5] =
        [Self::AgentForwarding, Self::PortForwarding, Self::Pty, Self::UserRc, Self::X11Forwarding];

    /// The certificate extension that grants it.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::AgentForwarding => "permit-agent-forwarding",
            Self::PortForwarding => "permit-port-forwarding",
            Self::Pty => "permit-pty",
            Self::UserRc => "permit-user-rc",
            Self::X11Forwarding => "permit-X11-forwarding",
        }
    }

    /// The option of an `authorized_keys` line, in lower case, that grants it; with `no-` before it, denies it.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::AgentForwarding => "agent-forwarding",
            Self::PortForwarding => "port-forwarding",
            Self::Pty => "pty",
            Self::UserRc => "user-rc",
            Self::X11Forwarding => "x11-forwarding",
        }
    }
}

/// A set of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// What a key without options may do: everything.
    #[must_use]
    pub fn all() -> Self {
        Self(Permission::ALL.into())
    }

    #[must_use]
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.len() == Permission::ALL.len()
    }

    pub fn set(&mut self, permission: Permission, allowed: bool) {
        if allowed {
            self.0.insert(permission);
        } else {
            self.0.remove(&permission);
        }
    }

    #[must_use]
    pub fn contains(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }

    /// What both allow.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = Permission> {
        self.0.iter().copied()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<T: IntoIterator<Item = Permission>>(permissions: T) -> Self {
        Self(permissions.into_iter().collect())
    }
}
