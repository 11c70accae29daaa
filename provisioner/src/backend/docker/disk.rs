//! What volumes and containers take of the disk.
//!
//! bollard asks for it too, and understands only the answer of engines from API 1.52 on, which older ones do not give. So
//! this one question is put, and its answer read, here.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backend::{Disk, Error};

/// Engines that know the parameters leave images and build caches out; older ones look at all.
const PATH: &str = "/system/df?type=volume&type=container&verbose=true";
const CALL: &str = "disk usage";
/// The engine walks through every file of every volume.
const PATIENCE: Duration = Duration::from_secs(600);
/// Far more than thousands of boxes make.
const ANSWER_MAX: usize = 64 << 20;

/// What every volume and container of the engine takes, whosever they are.
pub(super) async fn measure(socket: &Path) -> Result<Disk, Error> {
    let answer = timeout(PATIENCE, ask(socket)).await;
    let answer = answer.map_err(|_| Error::TimedOut { call: CALL, after: PATIENCE })??;
    read(&answer).map_err(|fault| Error::Refused { call: CALL, message: fault.to_string() })
}

async fn ask(socket: &Path) -> Result<Bytes, Error> {
    let stream = UnixStream::connect(socket).await.map_err(|fault| Error::Unreachable(fault.to_string()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    // Ends with this call.
    let mut reading = JoinSet::new();
    reading.spawn(connection);
    let request = Request::get(PATH).header(header::HOST, "docker").body(Empty::<Bytes>::new());
    let request = request.map_err(|fault| Error::Refused { call: CALL, message: fault.to_string() })?;
    let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|fault| Error::NoAnswer { call: CALL, cause: fault.to_string() })?.to_bytes();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let said = String::from_utf8_lossy(&body).into_owned();
    Err(Error::Refused { call: CALL, message: format!("{status}: {said}") })
}

fn broken(fault: &hyper::Error) -> Error {
    Error::NoAnswer { call: CALL, cause: fault.to_string() }
}

/// The answer in both forms: lists at the top as engines had them, and below `…Usage` as they have them from API 1.52 on.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    volumes: Option<Vec<Volume>>,
    containers: Option<Vec<Container>>,
    volume_usage: Option<Usage<Volume>>,
    container_usage: Option<Usage<Container>>,
}

#[derive(Deserialize)]
struct Usage<T> {
    #[serde(rename = "Items")]
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    usage_data: Option<UsageData>,
}

#[derive(Deserialize)]
struct UsageData {
    /// Negative when the engine cannot tell.
    #[serde(rename = "Size")]
    size: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    names: Option<Vec<String>>,
    /// What it wrote over its image; left out when it is nothing.
    #[serde(default)]
    size_rw: i64,
}

fn read(json: &[u8]) -> Result<Disk, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(json)?;
    let items = |usage: Option<Usage<_>>| usage.and_then(|usage| usage.items);
    let volumes = answer.volumes.or_else(|| items(answer.volume_usage)).unwrap_or_default();
    let containers = answer.containers.or_else(|| answer.container_usage.and_then(|usage| usage.items));
    let size = |volume: Volume| Some((volume.name, u64::try_from(volume.usage_data?.size).ok()?));
    let written = |container: Container| {
        let name = container.names?.into_iter().next()?;
        Some((name.trim_start_matches('/').to_owned(), u64::try_from(container.size_rw).ok()?))
    };
    Ok(Disk {
        volumes: volumes.into_iter().filter_map(size).collect(),
        containers: containers.unwrap_or_default().into_iter().filter_map(written).collect(),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::up_to_api_1_51(
        r#"{"LayersSize": 7, "Images": null, "BuildCache": [],
            "Volumes": [{"Name": "a.home", "UsageData": {"RefCount": 1, "Size": 12}},
                {"Name": "remote", "UsageData": {"RefCount": 0, "Size": -1}}, {"Name": "b.home", "UsageData": null}],
            "Containers": [{"Names": ["/a"], "SizeRw": 3}, {"Names": ["/b"]}, {"Names": null}]}"#
    )]
    #[case::from_api_1_52(
        r#"{"VolumeUsage": {"TotalSize": 12, "Items": [{"Name": "a.home", "UsageData": {"RefCount": 1, "Size": 12}}]},
            "ContainerUsage": {"Items": [{"Names": ["/a"], "SizeRw": 3}, {"Names": ["/b"], "SizeRw": 0}]}}"#
    )]
    fn both_forms_of_the_answer(#[case] json: &str) {
        let disk = read(json.as_bytes()).unwrap();
        assert_eq!(disk.volumes, [("a.home".to_owned(), 12)].into());
        assert_eq!(disk.containers, [("a".to_owned(), 3), ("b".to_owned(), 0)].into());
    }

    #[test]
    fn an_answer_without_any_of_it() {
        assert_eq!(read(b"{}").unwrap(), Disk::default());
        assert!(read(b"[").is_err());
    }
}
