//! Go's golang.org/x/crypto/ssh, which Terraform, Packer, Docker's and many other tools are built on.

use crate::driver::{self, go};

const CASES: &[(&str, &str)] = &[
    ("exit code", "[0,1,42,255]"),
    ("streams", r#"["same 4194304","same 4194304",0]"#),
    ("end of input", r#""line\nended\ndone\n""#),
    ("terminal", r#"[["vt220","41","101","ready","55","133"],5]"#),
    ("environment", r#"[true,"ssh: setenv failed","set,\n"]"#),
    ("shell", r#"[7,"in a shell\n"]"#),
    ("signal", r#""TERM""#),
    ("signal sent", r#""USR1""#),
    ("local forward", r#""same 3000000""#),
    ("refused forward", r#"["ssh: rejected: connect failed (\"Connection refused\")","lives on\n"]"#),
    ("remote forward", r#"[true,"same 300000",7]"#),
    ("unix forwards", r#"["same 300000","same 300000"]"#),
    ("agent", r#""256 alice (ED25519)\n""#),
    ("many channels", "[]"),
    ("rekey", r#"["same 4194304","same 4194304"]"#),
    ("key exchanges", "{}"),
    ("ciphers", "{}"),
    ("requests", r#"[false,"","ssh: rejected: connect failed (\"open failed\")",false]"#),
    (
        "wrong key",
        r#""ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey], no supported methods remain""#,
    ),
];

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn x_crypto_ssh() {
    driver::check("go", || go(), CASES);
}
