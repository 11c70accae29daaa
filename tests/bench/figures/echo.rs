//! From a key to its echo: a terminal here, `ssh -tt`, and `cat` on a raw terminal in the box.

use std::fs::File;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use super::{Context, explain, find, milliseconds, take_turns};
use crate::client::{Background, Master};
use crate::figure::{Figure, Goal, Statistic};
use crate::keyboard::Keyboard;
use crate::site::{Cipher, Peer};

const CIPHER: Cipher = Cipher::Aes128Gcm;
/// Between two keys, with a little more or less: everybody on the way has gone to sleep by then.
const PAUSE: Duration = Duration::from_millis(10);
/// Keys whose echo is not counted.
const WARM_UP: usize = 5;
/// From a transfer's start to the first key that counts.
const RUN_UP: Duration = Duration::from_millis(500);
/// No transfer outlives its round by more than this, whatever happens to the bench.
const TRANSFER_LIMIT: &str = "timeout 120";

pub(super) fn idle(context: &Context<'_>) -> Vec<Figure> {
    let Context { site, plan } = *context;
    let what = "a key's echo while nothing else goes on";
    let mut figure = Figure::new("key echo, idle", "ms", what, &Peer::WITH_SOCAT).with_p99();
    let masters = Master::open_all(site, &Peer::WITH_SOCAT, CIPHER);
    let mut keyboards: Vec<_> =
        Peer::WITH_SOCAT.iter().map(|&peer| (peer, Keyboard::open(find(&masters, peer)))).collect();
    take_turns(WARM_UP, &mut keyboards, |number, (_, keyboard)| {
        press(keyboard, number);
    });
    take_turns(plan.keys * plan.idle_rounds, &mut keyboards, |number, (peer, keyboard)| {
        figure.push(*peer, press(keyboard, number));
    });
    let mut figure = figure.judged(Statistic::Median, &[Goal::MoreByAtMost(0.1, Peer::Direct)]);
    let (_, gateway) = keyboards.iter_mut().find(|(peer, _)| *peer == Peer::Gateway).unwrap();
    explain(site, &mut figure, || {
        for number in 0..plan.keys * plan.idle_rounds {
            press(gateway, number);
        }
    });
    vec![figure]
}

fn press(keyboard: &mut Keyboard, number: usize) -> f64 {
    // Not in step with anything that ticks.
    sleep(PAUSE + Duration::from_micros(number as u64 * 379 % 5000));
    milliseconds(keyboard.press())
}

pub(super) fn loaded(context: &Context<'_>) -> Vec<Figure> {
    let down = "a key's echo while `cat /dev/zero` in the box fills the same connection";
    let up = "a key's echo while the same connection carries /dev/zero into the box";
    vec![
        beside(context, "key echo, download", down, &|master| {
            let mut ssh = master.ssh(&[]);
            ssh.arg(format!("{TRANSFER_LIMIT} cat /dev/zero"));
            Background::start(context.site, ssh, Stdio::null())
        }),
        beside(context, "key echo, upload", up, &|master| {
            let mut ssh = master.ssh(&[]);
            ssh.arg(format!("{TRANSFER_LIMIT} cat >/dev/null"));
            Background::start(context.site, ssh, File::open("/dev/zero").unwrap())
        }),
    ]
}

fn beside(
    context: &Context<'_>,
    name: &'static str,
    what: &str,
    transfer: &dyn Fn(&Master) -> Background,
) -> Figure {
    let Context { site, plan } = *context;
    let mut figure = Figure::new(name, "ms", what, &Peer::WITH_SOCAT).with_p99();
    let mut peers = Peer::WITH_SOCAT;
    let round = |peer, seen: &mut dyn FnMut(f64)| {
        let master = Master::open(site, peer, CIPHER);
        let mut keyboard = Keyboard::open(&master);
        let mut transfer = transfer(&master);
        sleep(RUN_UP);
        for number in 0..WARM_UP + plan.keys {
            let took = press(&mut keyboard, number);
            if number >= WARM_UP {
                seen(took);
            }
        }
        transfer.assert_running("the transfer");
    };
    take_turns(plan.loaded_rounds, &mut peers, |_, &mut peer| {
        round(peer, &mut |took| figure.push(peer, took));
    });
    let mut figure = figure.judged(Statistic::Median, &[Goal::AtMostTimes(2.0, Peer::Direct)]);
    explain(site, &mut figure, || round(Peer::Gateway, &mut |_| {}));
    figure
}
