//! What people do with Boxgate, told with the programs that they do it with. One story file for each topic;
//! the harness is the library of this crate.
//!
//! Each needs root, Docker and the built programs, and says so where it is ignored: `./devhost test` runs all.
//! Stories that change nothing but a user's own files share one devhost; the others start their own.
#![expect(clippy::unwrap_used, reason = "a story fails by panicking")]

mod account;
mod bad_input;
mod bench;
mod boot;
mod boxes_that_fail;
mod comfort;
mod commands;
mod configuration;
mod connections;
mod devhost_script;
mod docker_inside;
mod docs;
mod dotfiles;
mod engine_restart;
mod first_login;
mod fleet;
mod forwarding;
mod harness;
mod ides;
mod keys;
mod kubernetes;
mod load;
mod lobby;
mod lobby_verbs;
mod neighbours;
mod operator;
mod persist;
mod restarts;
mod stalls;
mod stampede;
mod strangers;
mod terminal;
mod transfer;
mod web_ide;
