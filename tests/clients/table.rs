//! A family's table: what its clients do, and what must come of it on both servers.

use std::fmt::Write;
use std::fs;

use crate::servers::{Server, Servers};

/// A program's case: its name, what is done, and the text that must come of it.
pub(crate) type Case = (&'static str, fn(&Server) -> String, &'static str);

/// What came of one case on one server.
pub(crate) type Saw = (String, String);

/// Does every case on either server, and panics with all that differ.
#[track_caller]
pub(crate) fn check(family: &str, cases: &[Case]) {
    let servers = Servers::of(family);
    let saw = servers.both.each_ref().map(|server| {
        cases.iter().map(|(name, case, _)| ((*name).to_owned(), case(server))).collect::<Vec<_>>()
    });
    let expected: Vec<_> = cases.iter().map(|&(name, _, expected)| (name, expected)).collect();
    compare(family, &expected, &saw);
}

/// Whether what came back is what was sent, in a few words.
pub(crate) fn same(sent: &[u8], back: &[u8]) -> String {
    if sent == back {
        format!("same {}", back.len())
    } else {
        format!("sent {}, back {} others", sent.len(), back.len())
    }
}

/// The same of what the box's web server said, its head aside.
pub(crate) fn fetched(server: &Server, reply: &[u8]) -> String {
    let head = reply.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
    same(&fs::read(&server.web_body).unwrap(), &reply[head..])
}

/// Panics with every case that did not come out as expected on both servers: the gateway first, then sshd.
#[track_caller]
pub(crate) fn compare(family: &str, expected: &[(&str, &str)], [gateway, sshd]: &[Vec<Saw>; 2]) {
    let mut wrong = String::new();
    for (name, expected) in expected {
        let find = |saw: &[Saw]| saw.iter().find(|(case, _)| case == name).map(|(_, saw)| saw.clone());
        let [gateway, sshd] = [gateway, sshd].map(|saw| find(saw).unwrap_or_else(|| "nothing".to_owned()));
        if gateway != *expected || sshd != *expected {
            write!(wrong, "\n{name}\n  expected {expected}\n  gateway  {gateway}\n  sshd     {sshd}")
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{family}:{wrong}");
}
