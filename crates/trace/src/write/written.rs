//! [`Written`]: a file of another program's format, and what that cannot say.

use crate::event::Kind;

/// A trace in the form of a format that cannot say all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub text: String,
    /// Kinds of events that the format has no words for, each with the number of those that were left out.
    pub left_out: Vec<(Kind, u64)>,
}

impl Written {
    pub(super) fn leave_out(&mut self, kind: Kind) {
        match self.left_out.iter_mut().find(|(it, _)| *it == kind) {
            Some((_, count)) => *count += 1,
            None => self.left_out.push((kind, 1)),
        }
    }
}
