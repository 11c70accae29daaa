//! Runs a program in a box and reads what it prints.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::TryStreamExt;

use super::{Docker, connection::found};
use crate::backend::{Error, Program, Ran};

/// For programs that look something up. Less than a client of the API waits for the head of an answer.
const RUN: Duration = Duration::from_secs(12);
/// Most bytes of what a program prints that are kept: whoever owns the box decides what it prints.
const OUTPUT_MAX: usize = 1024 * 1024;

impl Docker {
    pub(super) async fn run_in(&self, container: &str, program: &Program<'_>) -> Result<Option<Ran>, Error> {
        let words = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(program.user.to_owned()),
            working_dir: Some(program.directory.to_owned()),
            env: words(&[&format!("HOME={}", program.directory), &format!("USER={}", program.user)]),
            cmd: words(program.command),
            ..ExecConfig::default()
        };
        let run = |docker: bollard::Docker| async move {
            let Some(exec) = found(docker.create_exec(container, config).await)? else { return Ok(None) };
            let options =
                StartExecOptions { output_capacity: Some(OUTPUT_MAX), ..StartExecOptions::default() };
            let mut output = Vec::new();
            if let StartExecResults::Attached { output: mut pieces, .. } =
                docker.start_exec(&exec.id, Some(options)).await?
            {
                while let Some(piece) = pieces.try_next().await? {
                    if let LogOutput::StdOut { message } = piece {
                        let room = OUTPUT_MAX - output.len();
                        output.extend_from_slice(&message[..message.len().min(room)]);
                    }
                }
            }
            let ended = docker.inspect_exec(&exec.id).await?;
            Ok(Some(Ran { exit_code: ended.exit_code.unwrap_or(-1), output }))
        };
        match self.connection.call("run a program in a box", RUN, run).await {
            // The engine's word for a container that does not run.
            Err(Error::Conflict { .. }) => Ok(None),
            ran => ran,
        }
    }
}
