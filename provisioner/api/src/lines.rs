//! Bytes as they arrive → whole lines, none longer than [`MAX_LINE`].

use bytes::{Buf, Bytes, BytesMut};

use crate::MAX_LINE;

/// A line grew past [`MAX_LINE`] without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Collects what has arrived since the last whole line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: BytesMut,
    /// How much of `pending` is known to hold no line end.
    searched: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.pending.extend_from_slice(data);
    }

    /// The next whole line without its end, `None` until there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        let end = self.pending.iter().skip(self.searched).position(|byte| *byte == b'\n');
        let Some(end) = end.map(|at| self.searched + at) else {
            self.searched = self.pending.len();
            return if self.searched > MAX_LINE { Err(TooLong) } else { Ok(None) };
        };
        if end > MAX_LINE {
            return Err(TooLong);
        }
        self.searched = 0;
        let line = self.pending.split_to(end).freeze();
        self.pending.advance(1);
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<Bytes> {
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE]);
        assert_eq!(lines.next(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next(), Err(TooLong));
    }

    #[test]
    fn a_line_that_ends_too_late_is_refused() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE + 1]);
        lines.push(b"\n");
        assert_eq!(lines.next(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            text in proptest::collection::vec("[a-z]{0,9}", 1..9),
            cut in 1_usize..7,
        ) {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in (text.join("\n") + "\n").as_bytes().chunks(cut) {
                lines.push(piece);
                seen.extend(all(&mut lines));
            }
            prop_assert_eq!(seen, text);
        }
    }
}
