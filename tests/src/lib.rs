//! What the scenario tests share: the real binary, a node or a cluster on its stage, plain questions to it, histories that
//! are judged, transcripts of pages.
//!
//! Deliberately absent: assertions. What must hold is said by the test that tells the story.

pub mod binary;
pub mod cluster;
mod cuts;
pub mod member;
pub mod node;
pub mod patience;
pub mod stage;
pub mod transcript;
pub mod trial;
