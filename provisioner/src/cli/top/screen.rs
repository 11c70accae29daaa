//! The terminal while `top` has it: the other screen, no cursor, keys as they are pressed. Dropping it gives the
//! terminal back as it was.

use std::io::{self, IsTerminal, Write, stdin, stdout};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

use crate::cli::error::CliError;

/// Lines that are not the table's: the head and an empty one.
const HEAD: u16 = 2;
/// Of a terminal that does not know its size, as serial consoles do not.
const LINES: u16 = 24;

#[derive(Debug)]
pub(super) struct Screen(());

impl Screen {
    pub(super) fn take() -> Result<Self, CliError> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Err(CliError::NoTerminal("top"));
        }
        enable_raw_mode().map_err(CliError::Terminal)?;
        // From here on dropping it gives back what was taken.
        let screen = Self(());
        // Lines that are too long end at the edge.
        execute!(stdout(), EnterAlternateScreen, Hide, DisableLineWrap).map_err(CliError::Terminal)?;
        Ok(screen)
    }

    /// Draws over what was there, so that nothing flickers.
    #[expect(clippy::unused_self, reason = "only whoever has the screen draws on it")]
    pub(super) fn show(&mut self, head: &str, table: &str) -> Result<(), CliError> {
        draw(head, table).map_err(CliError::Terminal)
    }
}

fn draw(head: &str, table: &str) -> io::Result<()> {
    let height = match size()? {
        (_, 0) => LINES,
        (_, height) => height,
    };
    let mut out = stdout().lock();
    queue!(out, BeginSynchronizedUpdate, MoveTo(0, 0), SetAttribute(Attribute::Bold), Print(head))?;
    queue!(out, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
    queue!(out, MoveTo(0, 1), Clear(ClearType::UntilNewLine))?;
    for (row, line) in (HEAD..height).zip(table.lines()) {
        queue!(out, MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine))?;
    }
    let below = u16::try_from(table.lines().count()).unwrap_or(u16::MAX).saturating_add(HEAD);
    if below < height {
        queue!(out, MoveTo(0, below), Clear(ClearType::FromCursorDown))?;
    }
    queue!(out, EndSynchronizedUpdate)?;
    out.flush()
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        drop(execute!(stdout(), EnableLineWrap, Show, LeaveAlternateScreen));
        drop(disable_raw_mode());
    }
}
