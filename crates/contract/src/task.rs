//! The name of a piece of outside work, and the right to do it.
//!
//! A task's id can be routed: it names its bucket and its instance. Absent on purpose: queues and
//! retries; they belong to the shard that holds the task.

use std::fmt;

use bincode::{Decode, Encode};
use serde::Serialize;

use crate::{Bucket, InstanceId, id::IdError};

/// `<bucket hex>-<instance>-<version>-<n>`: the n-th task that an instance's version scheduled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct TaskId {
    /// The slice of keys to which the instance belongs.
    pub bucket: Bucket,
    /// The instance that scheduled it.
    pub instance: InstanceId,
    /// The version that scheduled it.
    pub version: u64,
    /// Its number among that version's tasks.
    pub n: u32,
}

impl TaskId {
    /// Reads the text form.
    ///
    /// # Errors
    /// Says what a task id looks like.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let whole = || {
            let (bucket, rest) = text.split_once('-')?;
            let (rest, n) = rest.rsplit_once('-')?;
            let (instance, version) = rest.rsplit_once('-')?;
            Some(Self {
                bucket: Bucket::new(u16::from_str_radix(bucket, 16).ok()?)?,
                instance: InstanceId::parse(instance).ok()?,
                version: version.parse().ok()?,
                n: n.parse().ok()?,
            })
        };
        whole().ok_or_else(|| IdError {
            what: "task id",
            problem: format!("{text:?} is not of the form <bucket>-<instance>-<version>-<n>"),
        })
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}-{}-{}-{}", self.bucket.number(), self.instance, self.version, self.n)
    }
}

impl Serialize for TaskId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_is_read_back_even_when_the_instance_has_dashes() {
        let text = "0af-order-2024-7-12-1";
        let id = TaskId::parse(text).unwrap();
        assert_eq!(id.instance.as_str(), "order-2024-7");
        assert_eq!((id.version, id.n), (12, 1));
        assert_eq!(id.to_string(), text);
        assert!(TaskId::parse("fff1-a-1-1").is_err());
        assert!(TaskId::parse("a-1-1").is_err());
    }
}
