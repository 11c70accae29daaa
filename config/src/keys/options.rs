//! The options before a key (sshd(8), "`AUTHORIZED_KEYS` FILE FORMAT"): text → [`KeyOptions`]. An option that
//! cannot be honoured refuses the key, since without it the key could do more than its author meant.

use std::time::SystemTime;

use super::KeyError;
use super::permissions::{Permission, Permissions};
use super::time::parse_time;
use crate::AddressPatterns;

/// What the options of a key say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOptions {
    pub permissions: Permissions,
    /// Runs instead of whatever is asked for.
    pub force_command: Option<String>,
    /// Where the client must come from.
    pub from: Option<AddressPatterns>,
    /// From this moment on the key is refused.
    pub expires: Option<SystemTime>,
    /// A security key must have been touched.
    pub touch_required: bool,
    /// A security key must have verified its user, by PIN or finger.
    pub verify_required: bool,
    pub role: KeyRole,
}

/// What a key is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRole {
    /// Its holder may log in.
    Login,
    /// Whom it has certified may log in, by one of these principals or else by the login name.
    Authority { principals: Option<Vec<String>> },
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self {
            permissions: Permissions::all(),
            force_command: None,
            from: None,
            expires: None,
            touch_required: true,
            verify_required: false,
            role: KeyRole::Login,
        }
    }
}

/// `name` or `name="value"`.
struct Setting {
    /// In lower case: sshd does not tell cases apart.
    name: String,
    value: Option<String>,
}

impl KeyOptions {
    /// Parses what stands before the key's type, for example `restrict,pty,command="date"`. The order counts:
    /// `restrict` takes back what came before it.
    ///
    /// # Errors
    /// A [`KeyError`] that completes the sentence "the key …".
    pub(super) fn parse(text: &str) -> Result<Self, KeyError> {
        let mut parsed = Self::default();
        let mut authority = false;
        let mut principals = None;
        for setting in split(text)? {
            match setting.name.as_str() {
                "cert-authority" => authority = setting.flag()?,
                "principals" => fill(&mut principals, &setting, |list| {
                    let names: Vec<_> = list.split(',').map(str::to_owned).collect();
                    if names.iter().any(String::is_empty) { Err("has an empty name") } else { Ok(names) }
                })?,
                _ => parsed.apply(&setting)?,
            }
        }
        parsed.role = match (authority, principals) {
            (true, principals) => KeyRole::Authority { principals },
            (false, None) => KeyRole::Login,
            (false, Some(_)) => {
                let problem = "is only of use beside cert-authority".to_owned();
                return Err(KeyError::OptionValue { option: "principals".to_owned(), problem });
            }
        };
        Ok(parsed)
    }

    fn apply(&mut self, setting: &Setting) -> Result<(), KeyError> {
        match setting.name.as_str() {
            "restrict" if setting.flag()? => self.permissions = Permissions::none(),
            "command" => fill(&mut self.force_command, setting, |command| {
                if command.is_empty() { Err("is empty") } else { Ok(command.to_owned()) }
            })?,
            "from" => fill(&mut self.from, setting, AddressPatterns::parse)?,
            "expiry-time" => fill(&mut self.expires, setting, parse_time)?,
            "environment" | "tunnel" | "permitopen" | "permitlisten" => {
                return Err(KeyError::CannotHonour(setting.name.clone()));
            }
            name => {
                let (name, allowed) = match name.strip_prefix("no-") {
                    Some(rest) => (rest, false),
                    None => (name, true),
                };
                match (name, Permission::ALL.into_iter().find(|known| known.option() == name)) {
                    (_, Some(permission)) => self.permissions.set(permission, allowed),
                    ("touch-required", _) => self.touch_required = allowed,
                    ("verify-required", _) => self.verify_required = allowed,
                    _ => return Err(KeyError::UnknownOption(setting.name.clone())),
                }
                setting.flag()?;
            }
        }
        Ok(())
    }
}

impl Setting {
    /// An option that has no value; always true.
    fn flag(&self) -> Result<bool, KeyError> {
        match self.value {
            None => Ok(true),
            Some(_) => Err(self.problem("has no value")),
        }
    }

    fn problem(&self, problem: &str) -> KeyError {
        KeyError::OptionValue { option: self.name.clone(), problem: problem.to_owned() }
    }
}

/// Sets what may be set once.
fn fill<T, E: ToString>(
    slot: &mut Option<T>,
    setting: &Setting,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<(), KeyError> {
    let value = setting.value.as_deref().ok_or_else(|| setting.problem("needs a value in double quotes"))?;
    let value = parse(value).map_err(|problem| setting.problem(&problem.to_string()))?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(setting.problem("is there twice")),
    }
}

/// Where the options end: the first space outside double quotes.
pub(super) fn end(line: &str) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    line.find(|c: char| {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return true,
            _ => {}
        }
        escaped = c == '\\';
        false
    })
    .unwrap_or(line.len())
}

/// Takes a list of options apart. In a value, `\"` stands for a double quote.
fn split(text: &str) -> Result<Vec<Setting>, KeyError> {
    let malformed = |what: &str| KeyError::OptionSyntax(what.to_owned());
    let mut settings = Vec::new();
    let mut rest = text;
    loop {
        let name_end = rest.find(['=', ',']).unwrap_or(rest.len());
        let name = rest[..name_end].to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
            return Err(malformed("an option's name is missing"));
        }
        rest = &rest[name_end..];
        let mut value = None;
        if let Some(quoted) = rest.strip_prefix('=') {
            let quoted =
                quoted.strip_prefix('"').ok_or_else(|| malformed("a value is not in double quotes"))?;
            let (text, after) = unquote(quoted).ok_or_else(|| malformed("a double quote is missing"))?;
            value = Some(text);
            rest = after;
        }
        settings.push(Setting { name, value });
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(settings),
            None => return Err(malformed("a comma is missing")),
        }
    }
}

/// The value up to its closing quote, and what follows that.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' if quoted[at + 1..].starts_with('"') => {
                chars.next();
                value.push('"');
            }
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Permission::{AgentForwarding, PortForwarding, Pty, UserRc, X11Forwarding};
    use super::*;

    #[rstest]
    #[case("no-pty", &[AgentForwarding, PortForwarding, UserRc, X11Forwarding])]
    #[case("restrict", &[])]
    #[case("restrict,pty", &[Pty])]
    #[case("pty,restrict", &[])]
    #[case("RESTRICT,Port-Forwarding", &[PortForwarding])]
    #[case("restrict,agent-forwarding,x11-forwarding,user-rc", &[AgentForwarding, UserRc, X11Forwarding])]
    #[case("no-port-forwarding,no-X11-forwarding,no-agent-forwarding,no-user-rc", &[Pty])]
    #[case("no-pty,pty", &[AgentForwarding, PortForwarding, Pty, UserRc, X11Forwarding])]
    fn permissions(#[case] text: &str, #[case] expected: &[Permission]) {
        let parsed = KeyOptions::parse(text).unwrap();
        assert_eq!(parsed.permissions.iter().collect::<Vec<_>>(), expected);
    }

    #[rstest]
    #[case(r#"command="date""#, "date")]
    #[case(r#"command="echo \"a, b\"; date""#, "echo \"a, b\"; date")]
    #[case(r#"command="grep \d",restrict"#, r"grep \d")]
    #[case(r#"command="a\\" b""#, r#"a\" b"#)]
    fn commands(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(KeyOptions::parse(text).unwrap().force_command.as_deref(), Some(expected));
    }

    #[test]
    fn security_keys_and_authorities() {
        let parsed = KeyOptions::parse("no-touch-required,verify-required").unwrap();
        assert!(!parsed.touch_required && parsed.verify_required);
        let authority = KeyOptions::parse(r#"cert-authority,principals="ops,alice""#).unwrap().role;
        let principals = Some(vec!["ops".to_owned(), "alice".to_owned()]);
        assert_eq!(authority, KeyRole::Authority { principals });
        assert_eq!(
            KeyOptions::parse("cert-authority").unwrap().role,
            KeyRole::Authority { principals: None }
        );
    }

    #[rstest]
    #[case(r#"environment="A=b""#)]
    #[case(r#"tunnel="0""#)]
    #[case(r#"permitopen="localhost:80""#)]
    #[case(r#"PermitListen="8080""#)]
    fn what_cannot_be_enforced_refuses_the_key(#[case] text: &str) {
        assert!(matches!(KeyOptions::parse(text), Err(KeyError::CannotHonour(_))));
    }

    #[rstest]
    #[case("")]
    #[case("restrict,")]
    #[case(",restrict")]
    #[case("restrict pty")]
    #[case("no-restrict")]
    #[case("no-such-option")]
    #[case("no-no-pty")]
    #[case("no-command")]
    #[case("no-cert-authority")]
    #[case(r#"restrict="yes""#)]
    #[case(r#"pty="yes""#)]
    #[case(r#"cert-authority="yes""#)]
    #[case("command")]
    #[case("command=date")]
    #[case(r#"command="date"#)]
    #[case(r#"command="""#)]
    #[case(r#"command="a",command="b""#)]
    #[case(r#"from="192.0.2.1",from="192.0.2.2""#)]
    #[case(r#"from="host.example.org""#)]
    #[case(r#"from="""#)]
    #[case(r#"expiry-time="soon""#)]
    #[case(r#"principals="alice""#)]
    #[case(r#"cert-authority,principals="alice,,bob""#)]
    fn what_cannot_be_understood_refuses_the_key(#[case] text: &str) {
        KeyOptions::parse(text).unwrap_err();
    }
}
