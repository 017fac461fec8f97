//! Where an instance is in its life, as rows and lists know it (`contract.md`, section 7).
//!
//! The chart has the same words for the same things; here they are numbers in rows, so their order is part of the format.

use bincode::{Decode, Encode};

/// Where an instance is in its life, as rows and lists know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Status {
    /// Takes events.
    Running,
    /// An operator holds it.
    Paused,
    /// An event could not be taken; an operator is needed.
    Faulted,
    /// Undoes its saga.
    Compensating,
    /// Reached a final state.
    Done,
    /// Reached a final state with an error.
    Failed,
    /// Was cancelled.
    Cancelled,
    /// Was terminated.
    Terminated,
}

impl Status {
    /// Every status; its place here is its number in the rows.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Paused,
        Self::Faulted,
        Self::Compensating,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
        Self::Terminated,
    ];

    /// Returns the word that answers use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Faulted => "faulted",
            Self::Compensating => "compensating",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == word)
    }

    /// Returns the number in the rows.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Reads the number of a row.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns whether nothing will ever happen here again.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Cancelled | Self::Terminated => true,
            Self::Running | Self::Paused | Self::Faulted | Self::Compensating => false,
        }
    }
}
