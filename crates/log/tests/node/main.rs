//! The log of one node as the upper floors see it: real files, a single voter.
#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

mod bed;

mod backup;
mod disk;
mod proposals;
mod recovery;
mod snapshots;
mod three;
