//! Statehouse: a clustered, durable workflow control plane in one binary.
//!
//! Start reading at `serve.rs` for the node and at `cli/mod.rs` for everything that talks to one.
//!
//! Deliberately absent: anything but the dispatch.
// The futures of a whole node nest deeper than the compiler looks by default, in optimised builds.
#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
mod build;
mod builtin;
mod cli;
pub mod clock;
mod config;
mod instruments;
mod mutant;
mod serve;
mod slo;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
