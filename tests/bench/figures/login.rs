//! Logins, and commands over a connection that is there already: `ssh HOST true`, from the client's start to its
//! end.

use std::process::Stdio;

use super::{Context, milliseconds, settle, take_turns};
use crate::client::{Master, time};
use crate::figure::{Figure, Goal, Statistic};
use crate::site::{Cipher, Peer};

const CIPHER: Cipher = Cipher::Aes128Gcm;

pub(super) fn logins(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let warm_peers = [Peer::Direct, Peer::Gateway, Peer::Jump];
    let mut warm = Figure::new("warm login", "ms", "a login that runs `true`", &warm_peers);
    let cold_what = "the same at a gateway that keeps no spare connections to boxes";
    let mut cold = Figure::new("login, no spare", "ms", cold_what, &[Peer::Direct, Peer::Cold, Peer::Jump]);
    let mut peers = [Peer::Direct, Peer::Gateway, Peer::Cold, Peer::Jump];
    let login = |peer: Peer| {
        let mut ssh = site.ssh(CIPHER);
        ssh.args([peer.name(), "true"]);
        let took = time(site, ssh, Stdio::null());
        settle(plan);
        milliseconds(took)
    };
    for peer in peers {
        login(peer);
    }
    take_turns(plan.logins, &mut peers, |_, &mut peer| {
        let took = login(peer);
        for figure in [&mut warm, &mut cold] {
            if figure.columns.iter().any(|(column, _)| *column == peer) {
                figure.push(peer, took);
            }
        }
    });
    vec![
        warm.judged(Statistic::Median, &[Goal::AtMostTimes(0.5, Peer::Direct)]),
        cold.judged(Statistic::Median, &[Goal::AtMostTimes(1.0, Peer::Direct)]),
    ]
}

pub(super) fn commands(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let what = "`true` over an established connection (ControlMaster)";
    let mut figure = Figure::new("command", "ms", what, &Peer::USUAL);
    let mut masters = Master::open_all(site, &Peer::USUAL, CIPHER);
    let command = |master: &Master| {
        let mut ssh = master.ssh(&[]);
        ssh.arg("true");
        milliseconds(time(site, ssh, Stdio::null()))
    };
    for master in &masters {
        command(master);
    }
    take_turns(plan.commands, &mut masters, |_, master| figure.push(master.peer, command(master)));
    vec![figure.judged(Statistic::Median, &[Goal::AtMostTimes(1.1, Peer::Direct)])]
}
