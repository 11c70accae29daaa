//! What a key's options come to at this moment, for a client from this address: [`Terms`], or a reason to refuse.

use std::net::IpAddr;
use std::time::SystemTime;

use boxgate_config::{KeyOptions, Permissions};

use super::Refused;

/// What a principal's connection may not do. It travels to the box in the certificate that
/// [`crate::authority::Authority`] signs, and the box's sshd enforces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restrictions {
    pub permissions: Permissions,
    /// Runs instead of whatever is asked for.
    pub force_command: Option<String>,
}

impl Default for Restrictions {
    fn default() -> Self {
        Self { permissions: Permissions::all(), force_command: None }
    }
}

/// On which terms a key or a certificate lets its holder in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) restrictions: Restrictions,
    /// A security key must have been touched.
    pub(super) touch_required: bool,
    /// Its user must have been verified, so it must be a security key.
    pub(super) verify_required: bool,
}

impl Terms {
    pub(super) fn of_options(options: &KeyOptions, peer: IpAddr, now: SystemTime) -> Result<Self, Refused> {
        if options.expires.is_some_and(|expires| now >= expires) {
            return Err(Refused::KeyExpired);
        }
        if options.from.as_ref().is_some_and(|from| !from.matches(peer)) {
            return Err(Refused::FromElsewhere);
        }
        Ok(Self {
            restrictions: Restrictions {
                permissions: options.permissions.clone(),
                force_command: options.force_command.clone(),
            },
            touch_required: options.touch_required,
            verify_required: options.verify_required,
        })
    }

    /// What is allowed by both, and asked for by either. Two different commands cannot both be forced.
    pub(super) fn and(self, other: Self) -> Result<Self, Refused> {
        let (mine, theirs) = (self.restrictions, other.restrictions);
        let force_command = match (mine.force_command, theirs.force_command) {
            (Some(one), Some(two)) if one != two => return Err(Refused::TwoCommands),
            (one, two) => one.or(two),
        };
        Ok(Self {
            restrictions: Restrictions {
                permissions: mine.permissions.intersection(&theirs.permissions),
                force_command,
            },
            touch_required: self.touch_required || other.touch_required,
            verify_required: self.verify_required || other.verify_required,
        })
    }
}
