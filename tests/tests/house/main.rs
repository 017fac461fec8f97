//! The rules of the house, read by a machine: what `runbooks/develop/house.md` says must be so.
//!
//! One rule family a file. Each check is a function over text or metadata that returns what it found
//! wrong, and each has a test of its own that feeds it a wrong input: a rule that cannot fail is none.
//!
//! Absent on purpose: anything that a compiler or clippy checks already.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops, and says why")]

mod arrows;
mod codes;
mod files;
mod pages;
mod place;
mod rules;
mod words;
