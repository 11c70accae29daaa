//! A line of an authorized_keys file: refused, or a key that is the same when it is written down and read again.
#![no_main]

use boxgate_config::AuthorizedKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let Ok(key) = AuthorizedKey::parse(line) else { return };
    let Ok(written) = key.public_key().to_openssh() else { return };
    let again = AuthorizedKey::parse(&written).expect("a key that was accepted is accepted without options");
    assert_eq!(again.fingerprint(), key.fingerprint());
});
