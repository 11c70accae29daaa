//! The table for people.

use boxgate_provisioner_api::{BoxState, BoxSummary};
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;

use super::cells::{self, cell};

/// How a table looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether a terminal shows it that understands colours.
    pub colours: bool,
    pub of: Of,
}

/// Whose boxes a table shows, and so what of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// For an operator.
    Everybody,
    /// For their owner, who knows her name and chose neither image nor runtime.
    OneUser,
}

/// A column: its heading, and what stands in it for a box.
struct Column {
    heading: &'static str,
    alignment: CellAlignment,
    of: Option<Of>,
    content: fn(&BoxSummary, Timestamp) -> String,
}

const fn column(heading: &'static str, content: fn(&BoxSummary, Timestamp) -> String) -> Column {
    Column { heading, alignment: CellAlignment::Left, of: None, content }
}

impl Column {
    /// Of a table for these readers alone.
    const fn only(self, of: Of) -> Self {
        Self { of: Some(of), ..self }
    }

    /// Numbers stand below each other.
    const fn right(self) -> Self {
        Self { alignment: CellAlignment::Right, ..self }
    }
}

const STATE: &str = "STATE";
const ISOLATION: &str = "ISOLATION";

const COLUMNS: [Column; 10] = [
    column("USER", |devbox, _| devbox.id.owner.to_string()).only(Of::Everybody),
    column("BOX", |devbox, _| devbox.id.to_string()),
    column(STATE, |devbox, _| super::state(devbox.state).to_owned()),
    column("SINCE", |devbox, now| moment(devbox.since.as_deref(), now)).right(),
    column("CONN", |devbox, _| devbox.connections.to_string()).right(),
    column("CPU", |devbox, _| cells::cpus(devbox.usage.as_ref(), &devbox.limits)).right(),
    column("MEMORY", |devbox, _| cells::memory(devbox.usage.as_ref(), &devbox.limits)).right(),
    column("DISK", |devbox, _| cells::disk(devbox)).right(),
    column("IMAGE", |devbox, _| cells::optional(devbox.image.as_deref())).only(Of::Everybody),
    column(ISOLATION, |devbox, _| if devbox.isolated { "isolated" } else { "none" }.to_owned()),
];

/// One line for each box below a heading, without borders; the last column is there when a box has something in it.
/// Ends with a line end.
#[must_use]
pub fn table(boxes: &[BoxSummary], look: Look, now: Timestamp) -> String {
    let columns: Vec<_> = COLUMNS.iter().filter(|column| column.of.is_none_or(|of| of == look.of)).collect();
    let remarks: Vec<_> = boxes.iter().map(|devbox| remarks(devbox, now)).collect();
    let remarkable = remarks.iter().any(|remark| !remark.is_empty());
    let mut table = plain(look.colours);
    let headings = columns.iter().map(|column| column.heading).chain(remarkable.then_some("REMARKS"));
    table.set_header(headings);
    for (devbox, remark) in boxes.iter().zip(remarks) {
        let row = columns.iter().map(|column| coloured(column, devbox, now));
        table.add_row(row.chain(remarkable.then(|| Cell::new(remark))));
    }
    for (at, column) in columns.iter().enumerate() {
        if let Some(shown) = table.column_mut(at) {
            shown.set_cell_alignment(column.alignment);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// Lines that are too long are the terminal's to wrap: a broken cell cannot be copied.
fn plain(colours: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
    if colours {
        table.enforce_styling();
    }
    table
}

fn coloured(column: &Column, devbox: &BoxSummary, now: Timestamp) -> Cell {
    let shown = Cell::new(cell(&(column.content)(devbox, now)));
    match column.heading {
        STATE => shown.fg(colour(devbox.state)),
        ISOLATION if !devbox.isolated => shown.fg(Color::Red),
        _ => shown,
    }
}

fn colour(state: BoxState) -> Color {
    match state {
        BoxState::Ready => Color::Green,
        BoxState::Failed => Color::Red,
        BoxState::Stopped => Color::DarkGrey,
        BoxState::Paused => Color::Magenta,
        BoxState::Creating
        | BoxState::Booting
        | BoxState::Stopping
        | BoxState::Waking
        | BoxState::Removing => Color::Yellow,
    }
}

fn moment(moment: Option<&str>, now: Timestamp) -> String {
    cells::optional(moment.and_then(|moment| cells::age(moment, now)))
}

/// What few boxes have, and whoever looks at the list wants to know.
fn remarks(devbox: &BoxSummary, now: Timestamp) -> String {
    let kept = devbox.keep_until.as_deref().and_then(|until| cells::age(until, now));
    let remarks = [
        kept.map(|rest| format!("kept {rest}")),
        devbox.outdated.then(|| "moves to another image".to_owned()),
        devbox.reason.as_deref().map(cell),
    ];
    remarks.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
