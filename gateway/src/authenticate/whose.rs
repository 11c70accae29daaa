//! Whose key is it? In the lobby a key alone says who comes, so everybody's keys are looked at.
//!
//! That costs a look at each person's file, a few system calls that a thousand people make a few milliseconds of.
//! Only who is known already can tell an answer from a stranger's, so how long it takes tells nothing.

use std::net::SocketAddr;

use boxgate_config::LoginName;
use tracing::info;

use super::options::Terms;
use super::{Admission, Credential, Refused, Users};

impl Users {
    /// Who `credential` makes of a client at `peer` who does not say who she is.
    pub(super) fn whose(&self, credential: Credential<'_>, peer: SocketAddr) -> Option<Admission> {
        let everyone = self.keys.everyone();
        let mut reason = Refused::Unknown;
        let mut terms = |login: &LoginName| match self.terms_of_known(login, credential, peer) {
            Ok(terms) => Some((login.clone(), terms)),
            Err(refused) => {
                // That it is somebody else's is true of nearly everybody.
                if !matches!(refused, Refused::Unknown | Refused::NotAPrincipal) {
                    reason = refused;
                }
                None
            }
        };
        // A certificate says who its holder is: the first of its principals whom it lets in.
        let named = principals(credential).filter(|login| everyone.contains(login));
        let mut found: Vec<_> = named.filter_map(|login| terms(&login)).take(1).collect();
        if found.is_empty() {
            found.extend(everyone.iter().filter_map(&mut terms));
        }
        let mut found = found.into_iter();
        let Some((login, terms)) = found.next() else {
            if reason != Refused::Unknown {
                credential.log(&reason);
            }
            return None;
        };
        let others: Vec<_> = found.map(|(other, _)| other.to_string()).collect();
        let admission = Admission::new(login.clone(), credential, peer, terms);
        if others.is_empty() {
            return Some(admission);
        }
        info!("a key of {login} and of {}", others.join(", "));
        Some(admission.of_several())
    }

    fn terms_of_known(
        &self,
        login: &LoginName,
        credential: Credential<'_>,
        peer: SocketAddr,
    ) -> Result<Terms, Refused> {
        let keys = self.keys.of(login);
        // Her file may be one that is not believed, or gone by now.
        if keys.known { self.terms(&keys, login, credential, peer) } else { Err(Refused::Unknown) }
    }
}

fn principals(credential: Credential<'_>) -> impl Iterator<Item = LoginName> {
    let names = match credential {
        Credential::Key(_) => &[][..],
        Credential::Certificate(certificate) => certificate.valid_principals(),
    };
    names.iter().filter_map(|name| LoginName::parse(name).ok())
}
