//! What a check is.

use anyhow::Result;

use crate::{capability::Capabilities, guest::Guest};

/// One row of the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// A Rust name: the test is `<kernel>::<section>::<name>`.
    pub name: &'static str,
    /// The row as people read it.
    pub row: &'static str,
    /// Does it and tells what came of it in a few words, the same every time.
    /// An error is always a failure: of the check, not of the kernel.
    pub observe: fn(&Guest) -> Result<String>,
    /// What must come of it on a kernel of these capabilities.
    pub expect: fn(&Capabilities) -> Expected,
}

/// What must be observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// This.
    Exactly(&'static str),
    /// One of these: where it hangs on timing, or nobody relies on it.
    OneOf(&'static [&'static str]),
    /// It is only to be known.
    Anything,
}

/// This and nothing else.
pub fn is(observed: &'static str) -> Expected {
    Expected::Exactly(observed)
}

/// `yes` where `condition` holds, else `no`.
pub fn either(condition: bool, yes: &'static str, no: &'static str) -> Expected {
    is(if condition { yes } else { no })
}

impl Expected {
    /// Whether that is what was expected.
    pub fn holds(&self, observed: &str) -> bool {
        match self {
            Self::Exactly(expected) => observed == *expected,
            Self::OneOf(expected) => expected.contains(&observed),
            Self::Anything => true,
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        match self {
            Self::Exactly(expected) => (*expected).to_owned(),
            Self::OneOf(expected) => expected.join(" or "),
            Self::Anything => "anything".to_owned(),
        }
    }
}
