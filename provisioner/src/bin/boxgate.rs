//! The operator's program. All that it does is in [`boxgate_provisioner::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    boxgate_provisioner::cli::main()
}
