//! A program in a running container: made, run to its end, asked what it came to.

use std::time::Duration;

use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::TryStreamExt;

use super::connection::Connection;
use crate::backend::{Error, Ran};

/// Bytes of a program's output that are kept; what goes beyond is read and dropped, so that the program can end.
const OUTPUT_MAX: usize = 4096;

/// `ask` is how long a question may take, `change` how long the program may.
pub(super) async fn run(
    connection: &Connection,
    [ask, change]: [Duration; 2],
    container: &str,
    argv: &[&str],
) -> Result<Ran, Error> {
    let config = ExecConfig {
        cmd: Some(argv.iter().map(|word| (*word).to_owned()).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let create = |docker: bollard::Docker| async move { docker.create_exec(container, config).await };
    let id = connection.call("create exec", ask, create).await?.id;
    let id = id.as_str();
    let run = |docker: bollard::Docker| async move {
        let mut kept = Vec::new();
        if let StartExecResults::Attached { mut output, .. } =
            docker.start_exec(id, None::<StartExecOptions>).await?
        {
            while let Some(chunk) = output.try_next().await? {
                let room = OUTPUT_MAX - kept.len();
                kept.extend(chunk.into_bytes().into_iter().take(room));
            }
        }
        Ok(kept)
    };
    let output = connection.call("start exec", change, run).await?;
    let inspect = |docker: bollard::Docker| async move { docker.inspect_exec(id).await };
    let ended = connection.call("inspect exec", ask, inspect).await?;
    Ok(Ran {
        // None of one that is still running, which ours is not.
        exit_code: ended.exit_code.unwrap_or(-1),
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}
