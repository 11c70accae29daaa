//! Whether boxes are kept from each other, from this host and from the cloud's metadata.

use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::finding::Finding;

pub(super) fn protection(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "firewall";
    vec![match &facts.firewall {
        Some(Ok(())) => {
            Finding::ok(CHECK, "boxes reach neither each other, nor this host, nor the cloud's metadata")
        }
        Some(Err(fault)) if facts.root => Finding::fail(CHECK, fault.to_string(), fault.remedy()),
        Some(Err(fault)) => Finding::warn(CHECK, fault.to_string(), "sudo boxgate doctor"),
        None => Finding::warn(
            CHECK,
            "it is off: unless something else prevents it, boxes reach each other, this host and the cloud's \
             metadata, credentials among them",
            "set provisioner.firewall = \"on\"",
        ),
    }]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::{facts, statuses};
    use super::*;
    use crate::cli::doctor::finding::Status;
    use crate::network::firewall::FirewallFault;

    #[rstest]
    #[case(Some(Ok(())), true, Status::Ok)]
    #[case(Some(Err(FirewallFault::NotInstalled)), true, Status::Fail)]
    #[case(Some(Err(FirewallFault::NotPermitted)), false, Status::Warn)]
    #[case(None, true, Status::Warn)]
    fn rules(
        #[case] firewall: Option<Result<(), FirewallFault>>,
        #[case] root: bool,
        #[case] expected: Status,
    ) {
        let mut facts = facts();
        (facts.firewall, facts.root) = (firewall, root);
        assert_eq!(statuses(&protection(&facts)), [expected]);
    }
}
