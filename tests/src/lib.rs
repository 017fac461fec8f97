//! What the scenario tests share: the real binary, a node or a cluster on its stage, plain questions to it, histories that
//! are judged, transcripts of pages. And the simulation, which needs no process at all.
//!
//! Deliberately absent: what one story alone is about. Here is only what must hold at the end of each.

pub mod binary;
pub mod cluster;
pub mod collector;
mod cuts;
pub mod load;
pub mod member;
pub mod node;
pub mod patience;
pub mod simulation;
pub mod stage;
pub mod transcript;
pub mod trial;
