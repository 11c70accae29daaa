//! asyncssh, which knows more of the protocol than most: signals, breaks, every kind of forward.

use crate::driver::{self, python};

const CASES: &[(&str, &str)] = &[
    ("exit code", "[0,1,42,255]"),
    ("streams", r#"["same 4194304","same 4194304",0]"#),
    ("end of input", r#""line\nended\ndone\n""#),
    ("terminal", r#"[["vt220","41","101","ready","55","133"],5]"#),
    ("environment", r#""set,\n""#),
    ("shell", r#"["in a shell\n",7]"#),
    ("signal", r#"[-1,["TERM",false,"",""]]"#),
    ("signal sent", r#"[-1,["USR1",false,"",""]]"#),
    ("break", "6"),
    ("sftp", r#"[["link","two"],"0o100640",true,"same 4194304","No such file"]"#),
    ("local forward", r#""same 3000000""#),
    ("socks", r#""same 3000000""#),
    ("refused forward", r#"[2,"Connection refused","lives on\n"]"#),
    ("remote forward", r#"[true,"same 300000",7]"#),
    ("unix forwards", r#"["same 300000","same 300000"]"#),
    ("agent", r#""256 alice (ED25519)\n""#),
    ("many channels", "true"),
    ("rekey", r#""same 4194304""#),
    ("compression", r#"[["zlib@openssh.com","zlib@openssh.com"],"same 1200000","same 1200000"]"#),
    ("kex_algs", r#""all 7""#),
    ("encryption_algs", r#""all 6""#),
    ("mac_algs", r#""all 2""#),
    ("unknown subsystem", r#"[4294967295,"Session request failed"]"#),
    ("x11", r#""localhost\n1\n""#),
    ("wrong key", r#""PermissionDenied: Permission denied for user alice on host HOST""#),
];

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn asyncssh() {
    driver::check("asyncssh", || python("asyncssh_client.py"), CASES);
}
