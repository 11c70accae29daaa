//! npm ssh2, which editors and tools in JavaScript use.

use crate::driver::{self, node};

const CASES: &[(&str, &str)] = &[
    ("exit code", "[0,1,42,255]"),
    ("streams", r#"["same 4194304","same 4194304",0]"#),
    ("end of input", r#""line\nended\ndone\n""#),
    ("terminal", r#"[["vt220","41","101","ready","55","133"],5]"#),
    ("environment", r#""set,\n""#),
    ("shell", r#"["in a shell\n",7]"#),
    ("signal", r#"[null,"SIGTERM"]"#),
    ("signal sent", r#"[null,"SIGUSR1"]"#),
    ("sftp", r#"[["link","two"],"100640","same 4194304",[2,"No such file"]]"#),
    ("local forward", r#""same 3000000""#),
    ("refused forward", r#"[2,"(SSH) Channel open failure: Connection refused","lives on\n"]"#),
    ("remote forward", r#"[true,"same 300000",7]"#),
    ("unix forwards", r#"["same 300000","same 300000"]"#),
    ("open-remote-ssh", r#"["Linux\n",[1,"same 300000"],true,true,[2,"same 300000"]]"#),
    ("agent", r#""256 alice (ED25519)\n""#),
    ("many channels", "[]"),
    ("compression", r#"["same 1200000","same 1200000"]"#),
    ("unknown subsystem", r#""Unable to start subsystem: no-such-subsystem""#),
    ("x11", r#""localhost\n1\n""#),
    (
        "no more sessions",
        r#""Possible attack: attempt to open a session after additional sessions disabled""#,
    ),
    ("wrong key", r#"["client-authentication","All configured authentication methods failed"]"#),
];

#[test]
#[ignore = "needs Docker: ./devhost test runs it"]
fn ssh2() {
    driver::check("ssh2", || node("client.js"), CASES);
}
