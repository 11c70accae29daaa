//! `top`: the boxes that there are, measured and drawn again and again.
//!
//! `screen` owns the terminal; this file asks, sorts and makes the text. A provisioner that goes away is said in the
//! first line and asked again: operators restart it while they watch.

mod screen;

use std::cmp::Reverse;

use boxgate_provisioner_api::{BoxState, BoxSummary, Client, ClientError, Usage};
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::arguments::Top;
use super::error::{CliError, Exit};
use super::site::Site;
use crate::failure::one_line;
use crate::listing::{self, Look, Of, size};
use screen::Screen;

/// What the boxes are sorted by, the greatest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Cpu,
    Memory,
    Disk,
    Connections,
    /// The names, the lowest first.
    Name,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Press {
    Quit,
    Sort(Sort),
}

/// What there is to draw.
struct View {
    boxes: Vec<BoxSummary>,
    fault: Option<String>,
    sort: Sort,
}

pub(super) async fn top(site: &Site, asked: &Top) -> Result<Exit, CliError> {
    let client = site.client()?;
    // Before the screen is taken: what is wrong from the start is an error like any other.
    let boxes = client.boxes_with_usage().await?;
    let mut view = View { boxes, fault: None, sort: Sort::Cpu };
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Terminal)?;
    let mut screen = Screen::take()?;
    let mut events = EventStream::new();
    loop {
        view.draw(&mut screen)?;
        let look = async {
            sleep(asked.interval).await;
            measure(&client).await
        };
        tokio::pin!(look);
        loop {
            tokio::select! {
                measured = &mut look => {
                    view.take(measured);
                    break;
                }
                event = events.next() => match event {
                    Some(event) => {
                        match press(&event.map_err(CliError::Terminal)?) {
                            Some(Press::Quit) => return Ok(Exit::Done),
                            Some(Press::Sort(sort)) => view.sort = sort,
                            // Another size, or a key that means nothing here.
                            None => {}
                        }
                        view.draw(&mut screen)?;
                    }
                    None => return Ok(Exit::Done),
                },
                _ = terminate.recv() => return Ok(Exit::Done),
            }
        }
    }
}

async fn measure(client: &Client) -> Result<Vec<BoxSummary>, ClientError> {
    client.boxes_with_usage().await
}

fn press(event: &Event) -> Option<Press> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return None };
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Press::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Press::Quit),
        KeyCode::Char('c') => Some(Press::Sort(Sort::Cpu)),
        KeyCode::Char('m') => Some(Press::Sort(Sort::Memory)),
        KeyCode::Char('d') => Some(Press::Sort(Sort::Disk)),
        KeyCode::Char('n') => Some(Press::Sort(Sort::Connections)),
        KeyCode::Char('b') => Some(Press::Sort(Sort::Name)),
        _ => None,
    }
}

impl View {
    fn take(&mut self, measured: Result<Vec<BoxSummary>, ClientError>) {
        match measured {
            Ok(boxes) => {
                self.boxes = boxes;
                self.fault = None;
            }
            // What was seen last stays.
            Err(fault) => self.fault = Some(one_line(&fault.to_string())),
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> Result<(), CliError> {
        sort(&mut self.boxes, self.sort);
        let look = Look { colours: true, of: Of::Everybody };
        let table = listing::table(&self.boxes, look, Timestamp::now());
        let head = self.fault.clone().unwrap_or_else(|| summed_up(&self.boxes));
        screen.show(&head, &table)
    }
}

/// Stable, so that boxes of equal use do not change places from look to look.
fn sort(boxes: &mut [BoxSummary], by: Sort) {
    boxes.sort_by(|one, other| one.id.cmp(&other.id));
    let used = |devbox: &BoxSummary, what: fn(&Usage) -> u64| devbox.usage.as_ref().map(what);
    match by {
        Sort::Cpu => boxes.sort_by(|one, other| cpus(other).total_cmp(&cpus(one))),
        Sort::Memory => boxes.sort_by_key(|devbox| Reverse(used(devbox, |usage| usage.memory_bytes))),
        Sort::Disk => boxes.sort_by_key(|devbox| Reverse(devbox.disk_bytes)),
        Sort::Connections => boxes.sort_by_key(|devbox| Reverse(devbox.connections)),
        Sort::Name => {}
    }
}

fn cpus(devbox: &BoxSummary) -> f64 {
    devbox.usage.map_or(-1.0, |usage| usage.cpus)
}

/// `2 of 3 boxes ready, 4 connections, CPU 0.31, memory 120.0 MiB of 8.0 GiB promised`.
fn summed_up(boxes: &[BoxSummary]) -> String {
    let ready = boxes.iter().filter(|devbox| devbox.state == BoxState::Ready).count();
    let connections: u32 = boxes.iter().map(|devbox| devbox.connections).sum();
    let usages = || boxes.iter().filter_map(|devbox| devbox.usage);
    let cpus: f64 = usages().map(|usage| usage.cpus).sum();
    let memory = usages().map(|usage| usage.memory_bytes).sum();
    let running = boxes.iter().filter(|devbox| devbox.usage.is_some());
    let promised = running.map(|devbox| devbox.limits.memory_bytes).sum();
    format!(
        "{ready} of {} boxes ready, {connections} connections, CPU {cpus:.2}, memory {} of {} promised",
        boxes.len(),
        size(memory),
        size(promised)
    )
}

#[cfg(test)]
mod tests {
    use boxgate_provisioner_api::Limits;
    use crossterm::event::KeyEventState;
    use rstest::rstest;

    use super::*;
    use crate::testing;

    fn devbox(id: &str, usage: Option<(f64, u64)>) -> BoxSummary {
        let state = if usage.is_some() { BoxState::Ready } else { BoxState::Stopped };
        BoxSummary {
            connections: 2,
            limits: Limits { cpus: 2.0, memory_bytes: 1 << 30, pids: 4096, disk_bytes: None },
            usage: usage.map(|(cpus, memory_bytes)| Usage { cpus, memory_bytes, pids: 1 }),
            ..testing::summary(id, state)
        }
    }

    fn boxes() -> Vec<BoxSummary> {
        vec![
            devbox("dora", None),
            devbox("bob", Some((0.2, 90 << 20))),
            devbox("alice", Some((0.2, 30 << 20))),
            devbox("carol", Some((1.0, 60 << 20))),
        ]
    }

    #[rstest]
    #[case(Sort::Cpu, ["carol", "alice", "bob", "dora"])]
    #[case(Sort::Memory, ["bob", "carol", "alice", "dora"])]
    #[case(Sort::Connections, ["alice", "bob", "carol", "dora"])]
    #[case(Sort::Name, ["alice", "bob", "carol", "dora"])]
    fn sorted(#[case] by: Sort, #[case] expected: [&str; 4]) {
        let mut boxes = boxes();
        sort(&mut boxes, by);
        assert_eq!(boxes.iter().map(|devbox| devbox.id.to_string()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_sum() {
        assert_eq!(
            summed_up(&boxes()),
            "3 of 4 boxes ready, 8 connections, CPU 1.40, memory 180.0 MiB of 3.0 GiB promised"
        );
    }

    #[rstest]
    #[case('q', KeyModifiers::NONE, Some(Press::Quit))]
    #[case('c', KeyModifiers::CONTROL, Some(Press::Quit))]
    #[case('c', KeyModifiers::NONE, Some(Press::Sort(Sort::Cpu)))]
    #[case('m', KeyModifiers::NONE, Some(Press::Sort(Sort::Memory)))]
    #[case('x', KeyModifiers::NONE, None)]
    fn keys(#[case] key: char, #[case] modifiers: KeyModifiers, #[case] expected: Option<Press>) {
        let (code, kind, state) = (KeyCode::Char(key), KeyEventKind::Press, KeyEventState::NONE);
        assert_eq!(press(&Event::Key(KeyEvent { code, modifiers, kind, state })), expected);
    }

    #[test]
    fn a_provisioner_that_goes_away_leaves_what_was_seen() {
        let mut view = View { boxes: boxes(), fault: None, sort: Sort::Cpu };
        view.take(Err(ClientError::Protocol("gone".to_owned())));
        assert_eq!((view.boxes.len(), view.fault.as_deref()), (4, Some("provisioner: gone")));
        view.take(Ok(Vec::new()));
        assert_eq!((view.boxes.len(), view.fault), (0, None));
    }
}
