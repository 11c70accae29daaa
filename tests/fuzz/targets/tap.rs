//! The tap: whatever crosses the relay, it counts each message once and no more data than there was.
#![no_main]

// The file itself: the gateway would bring all of its libraries with it.
#[path = "../../../gateway/src/relay/tap.rs"]
#[expect(dead_code, unreachable_pub, reason = "a module of the gateway's")]
mod tap;

use libfuzzer_sys::fuzz_target;
use tap::{From, Tap};

// Messages are separated by line feeds, the first of them included: that makes seeds easy to write.
fuzz_target!(|input: &[u8]| {
    let tap = Tap::default();
    let mut sent = [0; 2];
    for (place, message) in input.split(|&byte| byte == b'\n').enumerate() {
        let from = if place % 2 == 0 { From::Client } else { From::Devbox };
        tap.see(from, message);
        sent[place % 2] += message.len() as u64;
    }
    let count = input.split(|&byte| byte == b'\n').count() as u64;
    assert_eq!(tap.messages(From::Client) + tap.messages(From::Devbox), count);
    assert!(tap.data(From::Client) <= sent[0] && tap.data(From::Devbox) <= sent[1]);
    assert!(tap.malformed() <= count);
    assert!(tap.to_string().len() < 2_000);
});
