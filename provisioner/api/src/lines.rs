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

    /// What has come of the next `most` bytes, which are no lines; empty until some has.
    pub(crate) fn take(&mut self, most: usize) -> Bytes {
        self.searched = 0;
        self.pending.split_to(most.min(self.pending.len())).freeze()
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
        fn bytes_among_lines_may_be_any(bytes in proptest::collection::vec(any::<u8>(), 0..50), cut in 1_usize..7) {
            let mut lines = Lines::default();
            let (mut before, mut taken, mut after) = (None, Vec::new(), None);
            for piece in [b"before\n", &bytes[..], b"after\n"].concat().chunks(cut) {
                lines.push(piece);
                before = before.or_else(|| lines.next().unwrap());
                if before.is_some() {
                    taken.extend_from_slice(&lines.take(bytes.len() - taken.len()));
                }
                if before.is_some() && taken.len() == bytes.len() {
                    after = after.or_else(|| lines.next().unwrap());
                }
            }
            prop_assert_eq!((before.unwrap(), taken, after.unwrap()), (Bytes::from("before"), bytes, Bytes::from("after")));
        }

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
