//! OpenSSH user certificates (OpenSSH `PROTOCOL.certkeys`): is it one, is it good now, from here, for this name,
//! and on which [`Terms`]. Whether its authority is believed is [`super::Users`]' to say.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use boxgate_config::{AddressPatterns, Permission, check_strength};
use ssh_key::certificate::CertType;
use ssh_key::{Algorithm, Certificate, PublicKey};

use super::Refused;
use super::options::{Restrictions, Terms};

/// Checks all of a certificate but its authority and its principals.
pub(super) fn terms(certificate: &Certificate, peer: IpAddr, now: SystemTime) -> Result<Terms, Refused> {
    check_form(certificate)?;
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < certificate.valid_after() {
        return Err(Refused::NotYetValid);
    }
    if now >= certificate.valid_before() {
        return Err(Refused::CertificateExpired);
    }
    options(certificate, peer)
}

/// A user certificate whose two keys are strong enough and whose signature is good.
fn check_form(certificate: &Certificate) -> Result<(), Refused> {
    if certificate.cert_type() != CertType::User {
        return Err(Refused::HostCertificate);
    }
    for key in [certificate.public_key(), certificate.signature_key()] {
        check_strength(&PublicKey::from(key.clone())).map_err(Refused::WeakKey)?;
    }
    // An authority's RSA signature names its hash function, and SHA-1 is none.
    if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
        return Err(Refused::Sha1);
    }
    certificate.verify_signature().map_err(|_| Refused::BadSignature)
}

/// Whether one of the certificate's principals is among `wanted`. A certificate without principals is nobody's.
pub(super) fn check_principals(certificate: &Certificate, wanted: &[impl AsRef<str>]) -> Result<(), Refused> {
    let mut principals = certificate.valid_principals().iter();
    let named = principals.any(|principal| wanted.iter().any(|name| name.as_ref() == principal));
    if named { Ok(()) } else { Err(Refused::NotAPrincipal) }
}

/// Critical options must all be understood; of extensions those count that are known.
fn options(certificate: &Certificate, peer: IpAddr) -> Result<Terms, Refused> {
    let mut force_command = None;
    let mut verify_required = false;
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "force-command" if !value.is_empty() => force_command = Some(value.clone()),
            "source-address" => {
                let networks = AddressPatterns::parse_networks(value).map_err(Refused::SourceAddress)?;
                if !networks.matches(peer) {
                    return Err(Refused::FromElsewhere);
                }
            }
            "verify-required" if value.is_empty() => verify_required = true,
            _ => return Err(Refused::CriticalOption(name.clone())),
        }
    }
    let extensions = certificate.extensions();
    let granted = |permission: &Permission| extensions.contains_key(permission.extension());
    let permissions = Permission::ALL.into_iter().filter(granted).collect();
    Ok(Terms {
        restrictions: Restrictions { permissions, force_command },
        touch_required: !extensions.contains_key("no-touch-required"),
        verify_required,
    })
}
