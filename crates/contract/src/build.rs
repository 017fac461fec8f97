//! What a build knows of the formats that the nodes of a cluster share.
//!
//! Two numbers, because they rise for different reasons. A feature level says which entries a build understands: every
//! replica of a shard has to understand all of them, so a shard's level is raised by an operator and never falls. A
//! version of the log's wire concerns two nodes at a time, and they agree on the newest that both speak.
//!
//! Both come in from the top (`main`), as a value. Absent on purpose: the environment, and which level a shard has; that
//! stands in its rows.

/// What a build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The newest feature level whose entries it understands; it understands all from 1 on.
    pub level: u16,
    /// The newest version of the log's wire that it speaks; it speaks all from 1 on.
    pub wire: u16,
}

impl Build {
    /// What these sources know.
    pub const THIS: Self = Self { level: 1, wire: 3 };

    /// Returns a build that claims to know this level, and as many more versions of the wire than these sources. Those have
    /// the frames of these: it is how tests put an older and a newer build side by side while there is only one level.
    #[must_use]
    pub const fn rehearsed(level: u16) -> Self {
        Self { level, wire: Self::THIS.wire + level.saturating_sub(Self::THIS.level) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_of_the_level_of_these_sources_is_these_sources() {
        assert_eq!(Build::rehearsed(Build::THIS.level), Build::THIS);
    }
}
