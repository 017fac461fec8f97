//! `statehouse cluster restore DIR`: a new cluster that begins with the state of a backup.
//!
//! The backup is read from end to end first. Then the data directory of one node is filled, as `cluster init` fills one:
//! another cluster with a name of its own, whose first node this is. Others join it and get everything from there. Tenants,
//! keys, definitions, instances, timers and stored answers go on; who was a member does not.
//!
//! Deliberately absent: restoring into a cluster that runs, or one shard alone. What was acknowledged since the backup
//! would be lost without anybody having said so.

use std::time::Instant;

use statehouse_cluster::{Restore as Plan, restore};
use statehouse_contract::{Build, MemberDocument};

use super::{member, refused, telemetry};
use crate::{
    cli::{
        backup::{manifest::damaged, verify},
        cluster::Restore,
        exit::{Exit, Failure},
        output::Output,
        settings,
    },
    clock::SystemClock,
    config::{Settings, Sources},
};

/// Runs `cluster restore`.
pub(crate) async fn run(asked: &Restore, output: Output, build: Build) -> Result<Exit, Failure> {
    let begin = Instant::now();
    let sources = Sources::from_process(asked.config.clone())
        .flag("node.data", "--data", asked.data.as_ref().map(|path| path.display()))
        // A verb that a person types: only what goes wrong is worth a line.
        .flag("telemetry.level", "cluster restore", Some("warn,openraft=error"));
    let loaded = settings::load(&sources)?;
    let settings = &loaded.settings;
    let _lines = telemetry(settings)?;
    let backup = verify::check(&asked.dir, build)?;
    let registry = backup.found.first().ok_or_else(|| damaged("the backup has no shard 0"))?;
    let directory = settings.directory();
    let plan = Plan {
        data: &directory,
        number: settings.node.number,
        document: document(settings),
        copies: &backup.copies,
        registry,
        clock: std::sync::Arc::new(SystemClock::start()),
        build,
    };
    let made = restore(plan).await.map_err(|error| refused(&error, &directory))?;
    let instances: u64 = backup.found.iter().map(|shard| shard.instances).sum();
    let left: Vec<String> = made.left_behind.iter().map(ToString::to_string).collect();
    output.told(&[
        ("cluster", format!("{} in {}", made.cluster, directory.display())),
        ("first node", made.node.to_string()),
        ("from", format!("{}, made at {}", asked.dir.display(), backup.manifest.made_at)),
        ("instances", format!("{instances} in {} shards", backup.copies.len())),
        ("left behind", left.join(", ")),
        ("took", format!("{} ms", begin.elapsed().as_millis())),
        (
            "next",
            "statehouse serve, with the same configuration; tokens are those of the backup"
                .to_owned(),
        ),
    ])?;
    Ok(Exit::Ok)
}

/// Returns how others will know the node; a node alone is not known to anybody.
fn document(settings: &Settings) -> MemberDocument {
    match settings.cluster.addresses() {
        Some((links, log)) => member::document(settings, links, log),
        None => MemberDocument {
            links: String::new(),
            log: String::new(),
            api: settings.api.seen_by_others(settings.api.listen),
            region: settings.node.region.clone(),
            standing: None,
        },
    }
}
