//! What an idle connection with one shell costs the gateway: how much its memory has grown when so many are held,
//! divided by their number. The gateway is a fresh one, whose memory nothing else has stretched before.

use std::thread::sleep;
use std::time::Duration;

use super::Context;
use crate::figure::{Figure, Goal, Statistic};
use crate::held::{Held, Target};
use crate::process::resident_kib;
use crate::site::Peer;

/// Until what the last logins needed has been given back.
const CALM: Duration = Duration::from_secs(3);

pub(super) fn held(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let what = format!("growth of the gateway per idle connection, {} held", plan.held);
    let mut figure = Figure::new("memory", "KiB", what, &[Peer::Gateway]);
    let (gateway, address) = site.devhost.gateway_beside("gateway-for-memory", &[]);
    let alice = site.devhost.login("alice");
    let host_key = site.devhost.directory().join("gateway/ssh_host_ed25519_key.pub");
    let target = Target::new(address, "alice", &alice.key, &host_key);
    // What the first connection ever makes is no connection's.
    drop(Held::open(&target, 1));
    sleep(CALM);
    let pid = gateway.worker();
    let before = resident_kib(pid);
    let held = Held::open(&target, plan.held);
    sleep(CALM);
    assert_eq!(held.open_still(), plan.held, "connections that are open");
    let after = resident_kib(pid);
    eprintln!("    resident before {before:.0} KiB, with {} connections {after:.0} KiB", plan.held);
    figure.push(Peer::Gateway, (after - before) / plan.held as f64);
    drop(held);
    vec![figure.judged(Statistic::Median, &[Goal::AtMost(64.0)])]
}
