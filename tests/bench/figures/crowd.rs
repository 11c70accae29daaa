//! Many logins at the same moment.

use std::process::Stdio;
use std::sync::Barrier;
use std::time::Duration;
use std::{panic, thread};

use super::{Context, milliseconds, take_turns};
use crate::client::try_time;
use crate::figure::{Figure, Goal, Statistic, Verdict};
use crate::site::{Cipher, Peer, Site};

const CIPHER: Cipher = Cipher::Aes128Gcm;
/// After a crowd has left, the box still ends its logins one by one.
const CALM: Duration = Duration::from_secs(4);

pub(super) fn logins(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let what = format!("{} logins at once that run `true`", plan.crowd);
    let mut peers = [Peer::Direct, Peer::Gateway];
    let mut figure = Figure::new("crowd", "ms", what, &peers).with_p99();
    let mut left_out = Vec::new();
    take_turns(plan.crowds, &mut peers, |_, &mut peer| {
        for login in crowd(site, peer, plan.crowd) {
            match login {
                Ok(took) => figure.push(peer, milliseconds(took)),
                Err(fault) if peer == Peer::Gateway => left_out.push(fault),
                Err(fault) => panic!("a direct login in a crowd: {fault}"),
            }
        }
        thread::sleep(if plan.quick { plan.gap } else { CALM });
    });
    if let Some(fault) = left_out.first() {
        eprintln!("    {} were not let in, for example: {fault}", left_out.len());
    }
    let all = plan.crowd * plan.crowds;
    let mut figure = figure.judged(Statistic::P99, &[Goal::AtMostTimes(3.0, Peer::Direct)]);
    figure.verdicts.push(Verdict {
        statistic: Statistic::Median,
        seen: format!("{} of {all} in", all - left_out.len()),
        goal: "all in".to_owned(),
        value: (all - left_out.len()) as f64,
        met: left_out.is_empty(),
    });
    vec![figure]
}

fn crowd(site: &Site, peer: Peer, count: usize) -> Vec<Result<Duration, String>> {
    let start = Barrier::new(count);
    let errors = site.directory().join("errors");
    let login = || {
        let mut ssh = site.ssh(CIPHER);
        ssh.args([peer.name(), "true"]);
        start.wait();
        try_time(ssh, Stdio::null(), &errors)
    };
    thread::scope(|scope| {
        let logins: Vec<_> = (0..count).map(|_| scope.spawn(login)).collect();
        logins
            .into_iter()
            .map(|login| login.join().unwrap_or_else(|fault| panic::resume_unwind(fault)))
            .collect()
    })
}
