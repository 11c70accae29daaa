//! What `systemctl status` says of the gateway, in a line.

use std::fmt;
use std::net::SocketAddr;

/// The workers as their supervisor sees them.
#[derive(Debug)]
pub(super) struct Status<'a> {
    pub(super) addresses: &'a [SocketAddr],
    /// Connections of the worker that serves, if one does yet.
    pub(super) live: Option<usize>,
    /// Connections of each worker that drains.
    pub(super) draining: Vec<usize>,
    /// Whether the last renewal came to nothing.
    pub(super) failed: bool,
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let Some(live) = self.live else { return write!(f, "Starting, on {}", addresses.join(", ")) };
        write!(f, "Serving {} on {}", count(live, "connection"), addresses.join(", "))?;
        if !self.draining.is_empty() {
            let connections = count(self.draining.iter().sum(), "connection");
            write!(f, "; {connections} of before in {}", count(self.draining.len(), "draining worker"))?;
        }
        if self.failed {
            f.write_str("; the last reload came to nothing, the log says why")?;
        }
        Ok(())
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, &[], false, "Starting, on [::]:22")]
    #[case(Some(17), &[], false, "Serving 17 connections on [::]:22")]
    #[case(Some(1), &[3], false, "Serving 1 connection on [::]:22; 3 connections of before in 1 draining worker")]
    #[case(
        Some(0), &[1, 1], true,
        "Serving 0 connections on [::]:22; 2 connections of before in 2 draining workers; the last reload came to \
         nothing, the log says why"
    )]
    fn what_an_operator_reads(
        #[case] live: Option<usize>,
        #[case] draining: &[usize],
        #[case] failed: bool,
        #[case] expected: &str,
    ) {
        let addresses = ["[::]:22".parse().unwrap()];
        let status = Status { addresses: &addresses, live, draining: draining.to_vec(), failed };
        assert_eq!(status.to_string(), expected);
    }
}
