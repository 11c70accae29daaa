//! paramiko, which Ansible, Fabric and many tools in Python use.

use crate::driver::{self, python};

const CASES: &[(&str, &str)] = &[
    ("exit code", "[0,1,42,255]"),
    ("streams", r#"["same 4194304","same 4194304",0]"#),
    ("end of input", r#""line\nended\ndone\n""#),
    ("terminal", r#"[["vt220","41","101","ready","55","133"],5]"#),
    ("environment", r#""set,\n""#),
    ("shell", r#"["in a shell\n",7]"#),
    ("signal", "-1"),
    ("sftp", r#"[["link","two"],"0o100640","same 4194304","No such file"]"#),
    ("local forward", r#""same 3000000""#),
    ("refused forward", r#"[2,"Connect failed","lives on\n"]"#),
    ("remote forward", r#"[true,"same 300000",7]"#),
    ("agent", r#""256 alice (ED25519)\n""#),
    ("many channels", "true"),
    ("rekey", r#""same 4194304""#),
    ("compression", r#"["zlib@openssh.com","zlib@openssh.com","same 1200000","same 1200000"]"#),
    ("unknown subsystem", r#""Channel closed.""#),
    ("keepalive", r#"[true,"alive\n"]"#),
    ("wrong key", r#""AuthenticationException: Authentication failed.""#),
];

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn paramiko() {
    driver::check("paramiko", || python("paramiko_client.py"), CASES);
}
