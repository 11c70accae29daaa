//! Tables of keys and certificates: who is let in, on which terms.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use boxgate_config::{Permission, Permissions};
use rstest::rstest;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::RsaKeypair;
use ssh_key::public::{KeyData, SkEd25519};
use ssh_key::{PrivateKey, Signature};
use tempfile::TempDir;

use super::*;

const TOUCHED: u8 = 1;
const VERIFIED: u8 = 4;

fn private() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

fn key() -> PublicKey {
    private().public_key().clone()
}

fn security_key() -> PublicKey {
    let ed25519 = *key().key_data().ed25519().unwrap();
    KeyData::SkEd25519(SkEd25519::new(ed25519, "ssh:")).into()
}

fn line(key: &PublicKey) -> String {
    key.to_openssh().unwrap()
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 4711))
}

/// A place with an empty `authorized_keys.d`, whose names can be used in settings.
fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keys.d")).unwrap();
    dir
}

/// `text` begins with lines of `[gateway]`.
fn users(dir: &TempDir, text: &str) -> Users {
    let dir = dir.path().display();
    let text = format!("[gateway]\nstate_dir = \"{dir}\"\nauthorized_keys_dir = \"{dir}/keys.d\"\n{text}\n");
    Users::load(&Config::parse(Path::new("test.toml"), &text).unwrap()).unwrap()
}

fn alice_with(dir: &TempDir, options: &str, key: &PublicKey) -> Users {
    let options = options.replace('"', "\\\"");
    users(dir, &format!("[users.alice]\nkeys = [\"{options} {}\"]", line(key)))
}

fn admit(users: &Users, credential: Credential<'_>, flags: Option<u8>) -> Option<Principal> {
    let statement = flags.map(|flags| SecurityKeyStatement { flags, counter: 1 });
    users.authenticate("alice", credential, peer())?.admit(statement).ok()
}

#[rstest]
#[case("alice", true)]
#[case("alice+web", true)]
#[case("bob", false)]
#[case("mallory", false)]
#[case("nobody-of-that-name", false)]
#[case("", false)]
#[case("alice\0", false)]
#[case("ALICE", false)]
#[case("../alice", false)]
fn only_the_owner_of_a_key_is_known(#[case] login: &str, #[case] known: bool) {
    let (hers, his) = (key(), key());
    let text = format!(
        "[users.alice]\nkeys = [\"{} a comment\"]\n[users.bob]\nkeys = [\"{}\"]",
        line(&hers),
        line(&his)
    );
    let users = users(&place(), &text);
    assert_eq!(users.authenticate(login, Credential::Key(&hers), peer()).is_some(), known);
    assert!(users.authenticate(login, Credential::Key(&key()), peer()).is_none());
}

#[rstest]
#[case("", true)]
#[case("from=\"192.0.2.0/24\"", true)]
#[case("from=\"198.51.100.1,192.0.2.*\"", true)]
#[case("from=\"198.51.100.1\"", false)]
#[case("from=\"*,!192.0.2.7\"", false)]
#[case("expiry-time=\"20380101Z\"", true)]
#[case("expiry-time=\"20200101Z\"", false)]
#[case("cert-authority", false)]
fn options_that_let_in_or_not(#[case] options: &str, #[case] expected: bool) {
    let key = key();
    let users = alice_with(&place(), options, &key);
    assert_eq!(admit(&users, Credential::Key(&key), None).is_some(), expected);
}

#[test]
fn restrictions_come_with_the_principal() {
    let key = key();
    let place = place();
    let principal = |options| admit(&alice_with(&place, options, &key), Credential::Key(&key), None).unwrap();
    assert!(principal("").is_unrestricted());
    let restricted = principal("restrict,pty,command=\"date\"");
    assert_eq!(restricted.restrictions().permissions, Permissions::from_iter([Permission::Pty]));
    assert_eq!(restricted.restrictions().force_command.as_deref(), Some("date"));
}

#[test]
fn a_key_that_is_there_twice_lets_in_by_the_line_that_allows_it() {
    let key = key();
    let place = place();
    let text = format!("from=\"198.51.100.1\" {0}\nrestrict {0}\n", line(&key));
    fs::write(place.path().join("keys.d/alice"), text).unwrap();
    let principal = admit(&users(&place, ""), Credential::Key(&key), None).unwrap();
    assert_eq!(principal.restrictions().permissions, Permissions::none());
}

#[rstest]
#[case("", 0, false)]
#[case("", TOUCHED, true)]
#[case("", VERIFIED, false)]
#[case("no-touch-required", 0, true)]
#[case("verify-required", TOUCHED, false)]
#[case("verify-required", TOUCHED | VERIFIED, true)]
#[case("verify-required,no-touch-required", VERIFIED, true)]
fn a_security_key_is_touched_and_verifies(#[case] options: &str, #[case] flags: u8, #[case] expected: bool) {
    let key = security_key();
    let users = alice_with(&place(), options, &key);
    assert_eq!(admit(&users, Credential::Key(&key), Some(flags)).is_some(), expected);
    assert!(options.contains("no-touch") || admit(&users, Credential::Key(&key), None).is_none());
}

#[test]
fn a_file_of_her_name_is_enough_and_its_changes_count_at_once() {
    let place = place();
    let (first, second) = (key(), key());
    let users = users(&place, "");
    let file = place.path().join("keys.d/alice");
    let now = || [&first, &second].map(|key| admit(&users, Credential::Key(key), None).is_some());
    assert_eq!(now(), [false, false]);
    fs::write(
        &file,
        format!("# laptop\n{}\nnonsense\npermitopen=\"*:80\" {}\n", line(&first), line(&second)),
    )
    .unwrap();
    assert_eq!(now(), [true, false]);
    fs::write(&file, format!("{}\n{}\n", line(&first), line(&second))).unwrap();
    assert_eq!(now(), [true, true]);
    fs::remove_file(&file).unwrap();
    assert_eq!(now(), [false, false]);
}

#[test]
fn a_revoked_key_lets_nobody_in() {
    let place = place();
    let key = key();
    fs::write(place.path().join("revoked"), line(&key)).unwrap();
    let setting = format!("revoked_keys = \"{}/revoked\"", place.path().display());
    let users = users(&place, &format!("{setting}\n[users.alice]\nkeys = [\"{}\"]", line(&key)));
    assert!(admit(&users, Credential::Key(&key), None).is_none());
    fs::write(place.path().join("revoked"), "").unwrap();
    assert!(admit(&users, Credential::Key(&key), None).is_some());
}

#[test]
fn check_files_names_each_fault_with_its_line() {
    let place = place();
    let dir = place.path().display();
    fs::write(place.path().join("keys.d/alice"), format!("{}\nenvironment=\"A=b\" {0}\n", line(&key())))
        .unwrap();
    fs::write(place.path().join("keys.d/Bob"), "").unwrap();
    let text = format!("[gateway]\nauthorized_keys_dir = \"{dir}/keys.d\"\nrevoked_keys = \"{dir}/none\"\n");
    let faults = check_files(&Config::parse(Path::new("test.toml"), &text).unwrap());
    let at = |number: usize| faults[number].lines().next().unwrap().replace(&dir.to_string(), "DIR");
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!(at(0), "gateway.revoked_keys: DIR/none: there is no such file");
    assert!(at(1).starts_with("DIR/keys.d/Bob: the name "));
    assert_eq!(
        at(2),
        "DIR/keys.d/alice:2: the key has the option environment=, which cannot be enforced in a box"
    );
}

/// A certificate to be, for alice and by `ca`, valid for ever.
fn builder(subject: &PublicKey) -> Builder {
    let mut builder =
        Builder::new_with_random_nonce(&mut rand::rng(), subject.clone(), 0, u64::MAX >> 1).unwrap();
    builder.cert_type(CertType::User).unwrap().key_id("alice's").unwrap().serial(7).unwrap();
    builder
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn checked(certificate: &Certificate) -> Result<Terms, Refused> {
    certificate::terms(certificate, peer().ip(), SystemTime::now())
}

#[rstest]
#[case("force-command", "date", Ok(()))]
#[case("force-command", "", Err(Refused::CriticalOption("force-command".to_owned())))]
#[case("source-address", "192.0.2.0/24,2001:db8::/32", Ok(()))]
#[case("source-address", "198.51.100.0/24", Err(Refused::FromElsewhere))]
#[case("verify-required", "", Ok(()))]
#[case("verify-required", "yes", Err(Refused::CriticalOption("verify-required".to_owned())))]
#[case("sudo@example.org", "", Err(Refused::CriticalOption("sudo@example.org".to_owned())))]
fn critical_options(#[case] name: &str, #[case] value: &str, #[case] expected: Result<(), Refused>) {
    let mut builder = builder(&key());
    builder.valid_principal("alice").unwrap().critical_option(name, value).unwrap();
    assert_eq!(checked(&builder.sign(&private()).unwrap()).map(drop), expected);
}

#[rstest]
#[case("192.0.2.*")]
#[case("!198.51.100.1")]
#[case("192.0.2.1/24")]
fn a_source_address_that_is_no_list_of_networks_refuses(#[case] list: &str) {
    let mut builder = builder(&key());
    builder.valid_principal("alice").unwrap().critical_option("source-address", list).unwrap();
    let refused = checked(&builder.sign(&private()).unwrap()).unwrap_err();
    assert!(matches!(refused, Refused::SourceAddress(_)), "{refused}");
}

#[test]
fn what_a_certificate_does_not_permit_is_not_allowed() {
    let mut builder = builder(&key());
    builder.valid_principal("alice").unwrap();
    for extension in ["permit-pty", "permit-X11-forwarding", "no-such-extension@example.org"] {
        builder.extension(extension, "").unwrap();
    }
    let terms = checked(&builder.sign(&private()).unwrap()).unwrap();
    let permitted = Permissions::from_iter([Permission::Pty, Permission::X11Forwarding]);
    assert_eq!(terms.restrictions.permissions, permitted);
    assert!(terms.touch_required && !terms.verify_required);
}

#[rstest]
#[case(-60, 60, Ok(()))]
#[case(-60, 0, Err(Refused::CertificateExpired))]
#[case(60, 120, Err(Refused::NotYetValid))]
fn validity(#[case] from: i64, #[case] to: i64, #[case] expected: Result<(), Refused>) {
    let at = |offset: i64| now().checked_add_signed(offset).unwrap();
    let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), key(), at(from), at(to)).unwrap();
    builder.cert_type(CertType::User).unwrap().valid_principal("alice").unwrap();
    let certificate = builder.sign(&private()).unwrap();
    assert_eq!(
        certificate::terms(&certificate, peer().ip(), UNIX_EPOCH + Duration::from_secs(at(0))).map(drop),
        expected
    );
}

#[test]
fn a_hosts_certificate_a_weak_authority_and_a_changed_certificate_are_refused() {
    let mut host = Builder::new_with_random_nonce(&mut rand::rng(), key(), 0, u64::MAX >> 1).unwrap();
    host.cert_type(CertType::Host).unwrap().valid_principal("alice").unwrap();
    assert_eq!(checked(&host.sign(&private()).unwrap()), Err(Refused::HostCertificate));

    let weak = PrivateKey::from(RsaKeypair::random(&mut rand::rng(), 1024).unwrap());
    let mut signed_weakly = builder(&key());
    signed_weakly.valid_principal("alice").unwrap();
    let refused = checked(&signed_weakly.sign(&weak).unwrap()).unwrap_err();
    assert!(matches!(refused, Refused::WeakKey(KeyError::RsaTooShort { .. })), "{refused}");

    let mut good = builder(&key());
    good.valid_principal("alice").unwrap();
    let mut bytes = good.sign(&private()).unwrap().to_bytes().unwrap();
    let at = bytes.windows(5).position(|five| five == b"alice").unwrap();
    bytes[at] = b'b';
    assert_eq!(checked(&Certificate::from_bytes(&bytes).unwrap()), Err(Refused::BadSignature));
}

#[test]
fn an_authority_that_signs_with_sha1_is_refused() {
    let strong = PrivateKey::from(RsaKeypair::random(&mut rand::rng(), 2048).unwrap());
    let mut builder = builder(&key());
    builder.valid_principal("alice").unwrap();
    let good = builder.sign(&strong).unwrap();
    assert!(checked(&good).is_ok());
    // The same, but the signature's algorithm says ssh-rsa: no hash is named, so it is SHA-1.
    let bytes = good.to_bytes().unwrap();
    let signature = Vec::try_from(good.signature().clone()).unwrap();
    let sha1 = Signature::new(Algorithm::Rsa { hash: None }, good.signature().as_bytes()).unwrap();
    let sha1 = Vec::try_from(sha1).unwrap();
    let tbs = &bytes[..bytes.len() - signature.len() - 4];
    let length = u32::try_from(sha1.len()).unwrap().to_be_bytes();
    let forged = Certificate::from_bytes(&[tbs, &length, &sha1].concat()).unwrap();
    assert_eq!(checked(&forged), Err(Refused::Sha1));
}

#[rstest]
#[case::everybodys(&["alice"], "", true)]
#[case::everybodys_of_two(&["web", "alice"], "", true)]
#[case::everybodys_for_another(&["bob"], "", false)]
#[case::for_nobody(&[], "", false)]
#[case::her_own(&["alice"], "cert-authority", true)]
#[case::her_own_for_another(&["bob"], "cert-authority", false)]
#[case::her_own_by_principal(&["ops"], "cert-authority,principals=\"dev,ops\"", true)]
#[case::her_own_without_that_principal(&["alice"], "cert-authority,principals=\"dev,ops\"", false)]
#[case::her_own_from_elsewhere(&["alice"], "cert-authority,from=\"198.51.100.1\"", false)]
#[case::a_key_is_no_authority(&["alice"], "restrict", false)]
fn principals(#[case] names: &[&str], #[case] options: &str, #[case] expected: bool) {
    let (ca, subject) = (private(), key());
    let mut builder = builder(&subject);
    if names.is_empty() {
        builder.all_principals_valid().unwrap();
    }
    for name in names {
        builder.valid_principal(*name).unwrap();
    }
    let certificate = builder.sign(&ca).unwrap();
    let place = place();
    let users = if options.is_empty() {
        users(&place, &format!("user_ca_keys = [\"{}\"]\n[users.alice]", line(ca.public_key())))
    } else {
        alice_with(&place, options, ca.public_key())
    };
    let principal = admit(&users, Credential::Certificate(&certificate), None);
    assert_eq!(principal.is_some(), expected);
    // The bare key is nobody's, and so is a certificate of another authority.
    assert!(admit(&users, Credential::Key(&subject), None).is_none());
    let other = builder_for_alice(&subject).sign(&private()).unwrap();
    assert!(admit(&users, Credential::Certificate(&other), None).is_none());
}

fn builder_for_alice(subject: &PublicKey) -> Builder {
    let mut builder = builder(subject);
    builder.valid_principal("alice").unwrap();
    builder
}

#[test]
fn a_certificate_lets_in_people_of_the_configuration_alone() {
    let ca = private();
    let certificate = builder_for_alice(&key()).sign(&ca).unwrap();
    let users = users(&place(), &format!("user_ca_keys = [\"{}\"]\n[users.bob]", line(ca.public_key())));
    assert!(admit(&users, Credential::Certificate(&certificate), None).is_none());
}

#[test]
fn an_authoritys_options_and_the_certificates_hold_together() {
    let (ca, place) = (private(), place());
    let mut builder = builder_for_alice(&key());
    builder.extension("permit-pty", "").unwrap().critical_option("force-command", "date").unwrap();
    let certificate = builder.sign(&ca).unwrap();
    let principal = |options: &str| {
        admit(&alice_with(&place, options, ca.public_key()), Credential::Certificate(&certificate), None)
    };
    let restricted = principal("cert-authority").unwrap();
    assert_eq!(restricted.restrictions().permissions, Permissions::from_iter([Permission::Pty]));
    assert_eq!(restricted.restrictions().force_command.as_deref(), Some("date"));
    assert!(restricted.to_string().contains("(certificate \"alice's\" serial 7)"), "{restricted}");
    let both = principal("cert-authority,restrict,command=\"date\"").unwrap();
    assert_eq!(both.restrictions().permissions, Permissions::none());
    assert!(principal("cert-authority,command=\"id\"").is_none());
}

#[test]
fn a_revoked_authority_and_a_revoked_certified_key_let_nobody_in() {
    let (ca, subject, place) = (private(), key(), place());
    let certificate = builder_for_alice(&subject).sign(&ca).unwrap();
    let file = place.path().join("revoked");
    fs::write(&file, "").unwrap();
    let settings =
        format!("revoked_keys = \"{}\"\nuser_ca_keys = [\"{}\"]", file.display(), line(ca.public_key()));
    let users = users(&place, &format!("{settings}\n[users.alice]"));
    let known = || admit(&users, Credential::Certificate(&certificate), None).is_some();
    assert!(known());
    for key in [ca.public_key(), &subject] {
        fs::write(&file, key.fingerprint(HashAlg::Sha256).to_string()).unwrap();
        assert!(!known());
    }
}

#[rstest]
#[case(false, 0, false)]
#[case(false, TOUCHED, true)]
#[case(true, 0, true)]
fn a_certified_security_key_is_touched(#[case] no_touch: bool, #[case] flags: u8, #[case] expected: bool) {
    let ca = private();
    let mut builder = builder_for_alice(&security_key());
    if no_touch {
        builder.extension("no-touch-required", "").unwrap();
    }
    let certificate = builder.sign(&ca).unwrap();
    let users = users(&place(), &format!("user_ca_keys = [\"{}\"]\n[users.alice]", line(ca.public_key())));
    assert_eq!(admit(&users, Credential::Certificate(&certificate), Some(flags)).is_some(), expected);
}

#[test]
fn a_certificate_that_wants_its_user_verified_is_of_no_use_without_a_security_key() {
    let ca = private();
    let mut builder = builder_for_alice(&key());
    builder.critical_option("verify-required", "").unwrap();
    let certificate = builder.sign(&ca).unwrap();
    let users = users(&place(), &format!("user_ca_keys = [\"{}\"]\n[users.alice]", line(ca.public_key())));
    assert!(admit(&users, Credential::Certificate(&certificate), None).is_none());
}

/// Whose a credential is, and whether it is somebody else's too.
fn whose(users: &Users, credential: Credential<'_>) -> Option<(String, bool)> {
    let principal = users.authenticate("box", credential, peer())?.admit(None).ok()?;
    Some((principal.login().to_string(), principal.shares_key()))
}

#[test]
fn in_the_lobby_a_key_says_who_comes() {
    let place = place();
    let [hers, his, both, filed, gone, elsewhere] = [(); 6].map(|()| key());
    let text = format!(
        "[users.alice]\nkeys = [\"{}\", \"{}\"]\n[users.bob]\nkeys = [\"{}\", \"{}\", \"expiry-time=\\\"20200101Z\\\" {}\"]",
        line(&hers),
        line(&both),
        line(&his),
        line(&both),
        line(&gone),
    );
    let lines = format!("{}\nfrom=\"198.51.100.1\" {}\n", line(&filed), line(&elsewhere));
    fs::write(place.path().join("keys.d/carol"), lines).unwrap();
    fs::write(place.path().join("keys.d/NOT A NAME"), line(&gone)).unwrap();
    let users = users(&place, &text);
    let whose = |key: &PublicKey| whose(&users, Credential::Key(key));
    assert_eq!(whose(&hers), Some(("alice".to_owned(), false)));
    assert_eq!(whose(&his), Some(("bob".to_owned(), false)));
    assert_eq!(whose(&filed), Some(("carol".to_owned(), false)));
    assert!(whose(&both).is_some_and(|(_, shared)| shared));
    for nobodys in [&gone, &elsewhere, &key()] {
        assert_eq!(whose(nobodys), None);
    }
    fs::write(place.path().join("keys.d/dora"), line(&gone)).unwrap();
    assert_eq!(
        whose(&gone),
        Some(("dora".to_owned(), false)),
        "a key that was added now, and is good for her"
    );
    fs::remove_file(place.path().join("keys.d/carol")).unwrap();
    assert_eq!(whose(&filed), None);
}

#[test]
fn in_the_lobby_the_terms_of_a_key_hold() {
    let key = key();
    let users = alice_with(&place(), "restrict,command=\"date\"", &key);
    let principal = users.authenticate("box", Credential::Key(&key), peer()).unwrap().admit(None).unwrap();
    assert_eq!(principal.restrictions().permissions, Permissions::none());
    assert_eq!(principal.restrictions().force_command.as_deref(), Some("date"));
    let touch = security_key();
    let users = alice_with(&place(), "", &touch);
    assert_eq!(whose(&users, Credential::Key(&touch)), None, "it was not touched");
    let touched = Some(SecurityKeyStatement { flags: TOUCHED, counter: 1 });
    assert!(users.authenticate("box", Credential::Key(&touch), peer()).unwrap().admit(touched).is_ok());
}

#[rstest]
#[case::the_only_one_known(&["web", "alice"], "", Some(("alice", false)))]
#[case::the_first_of_two(&["bob", "alice"], "", Some(("bob", false)))]
#[case::no_login_names(&["root", "box", "ALICE"], "", None)]
#[case::by_her_own_authority(&["alice"], "cert-authority", Some(("alice", false)))]
#[case::by_a_principal_of_her_own(&["ops"], "cert-authority,principals=\"ops\"", Some(("alice", false)))]
#[case::bob_is_not_for_her_authority(&["bob"], "cert-authority", None)]
fn in_the_lobby_a_certificate_says_who_comes(
    #[case] names: &[&str],
    #[case] options: &str,
    #[case] expected: Option<(&str, bool)>,
) {
    let (ca, subject) = (private(), key());
    let mut builder = builder(&subject);
    for name in names {
        builder.valid_principal(*name).unwrap();
    }
    let certificate = builder.sign(&ca).unwrap();
    let place = place();
    let ca = line(ca.public_key());
    let everybodys = format!("user_ca_keys = [\"{ca}\"]\n[users.alice]\n[users.bob]");
    let hers = format!(
        "[users.alice]\nkeys = [\"{} {ca}\"]\n[users.bob]\nkeys = [\"{}\"]",
        options.replace('"', "\\\""),
        line(&key())
    );
    let users = users(&place, if options.is_empty() { &everybodys } else { &hers });
    let credential = Credential::Certificate(&certificate);
    assert_eq!(whose(&users, credential).as_ref().map(|(login, shared)| (login.as_str(), *shared)), expected);
    assert_eq!(whose(&users, Credential::Key(&subject)), None, "the bare key is nobody's");
}

#[test]
fn in_the_lobby_a_certificate_for_two_people_by_another_principal_is_of_several() {
    let (ca, subject) = (private(), key());
    let mut builder = builder(&subject);
    builder.valid_principal("ops").unwrap();
    let certificate = builder.sign(&ca).unwrap();
    let place = place();
    for login in ["alice", "bob"] {
        let file = place.path().join("keys.d").join(login);
        fs::write(file, format!("cert-authority,principals=\"ops\" {}\n", line(ca.public_key()))).unwrap();
    }
    let whose = whose(&users(&place, ""), Credential::Certificate(&certificate));
    assert_eq!(whose, Some(("alice".to_owned(), true)));
}
