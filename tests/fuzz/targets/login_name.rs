//! What stands before the `@`: whoever holds a parsed name may put it into a path, a label or a certificate.
#![no_main]

use boxgate_config::{DevBoxId, LoginName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    if let Ok(login) = LoginName::parse(name) {
        assert_eq!(login.as_str(), name);
        assert!((1..=32).contains(&name.len()) && is_plain(name), "{name:?}");
    }
    if let Ok(id) = DevBoxId::parse(name) {
        let shown = id.to_string();
        assert!(shown.len() < 64 && shown.split(['.', '+']).all(is_plain), "{name:?} became {shown:?}");
        assert_eq!(DevBoxId::parse(&shown).as_ref(), Ok(&id));
    }
});

fn is_plain(name: &str) -> bool {
    let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_');
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain)
}
