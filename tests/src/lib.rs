//! What the scenario tests share: the real binary, a node on its stage, plain questions to it, transcripts of pages.
//!
//! Deliberately absent: assertions. What must hold is said by the test that tells the story.

pub mod binary;
pub mod node;
pub mod stage;
pub mod transcript;
