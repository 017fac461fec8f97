//! From settings to a member of a cluster: opening a node, making a cluster, joining one.
//!
//! `cluster init` is the one explicit way to make a cluster; `cluster join` and `serve --join` ask one that exists for an
//! identity. An empty directory alone never does either: it may be a disk that lost its data.
//!
//! Deliberately absent: waiting for the shards of a new member. Their leaders fill them when they see it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use statehouse_cluster::{
    Bootstrap, ClusterConfig, Cookie, JoinError, Joining, LinkSecurity, Listen, MutualTls, Node,
    NodeConfig, NodeError, Profile, Tuning, join as ask, links::listen,
};
use statehouse_contract::{Build, MemberDocument, NodeId};

use super::{Started, seed};
use crate::{
    api,
    cli::{
        cluster::{Init, Join},
        exit::{Exit, Failure},
        output::Output,
        settings,
    },
    clock::SystemClock,
    config::{ClusterSettings, Distance, Settings, Sources},
};

/// Name of the file that says that a directory belongs to a cluster.
const IDENTITY_FILE: &str = "identity.json";

/// How long a directory in use is tried again.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(1_500);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How long a node that joins waits for a member to be there, and how often it looks.
const JOIN_WAIT_MAX: Duration = Duration::from_secs(60);
const JOIN_PAUSE: Duration = Duration::from_millis(100);

/// Opens the node of these settings. The outer error is about the settings, the inner one about the directory.
///
/// A process that was killed holds its lock until the system has taken it apart; whoever starts the next one at once
/// should not have to know.
pub(super) async fn open(
    settings: &Settings,
    api: &str,
    (bootstrap, build): (Bootstrap, Build),
    clock: &SystemClock,
) -> Result<Result<Node, NodeError>, Failure> {
    let begin = Instant::now();
    loop {
        let config = NodeConfig {
            data: settings.directory(),
            number: settings.node.number,
            api: api.to_owned(),
            region: settings.node.region.clone(),
            bootstrap,
            cluster: part_of(&settings.cluster).await?,
            clock: Arc::new(*clock),
            tuning: Tuning {
                snapshot_every: settings.cluster.snapshot_every,
                build,
                ..Tuning::standard()
            },
        };
        match Box::pin(Node::start(config)).await {
            Err(NodeError::Locked { .. }) if begin.elapsed() < LOCK_WAIT_MAX => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            end => return Ok(end),
        }
    }
}

/// Binds the addresses and reads the files by which a node is part of a cluster; nothing for a node alone.
async fn part_of(settings: &ClusterSettings) -> Result<Option<ClusterConfig>, Failure> {
    let Some((links, log)) = settings.addresses() else { return Ok(None) };
    let (cookie, security) = papers(settings)?;
    let links = bind("cluster.links", links, settings.advertise_links.as_deref()).await?;
    let log = bind("cluster.log", log, settings.advertise_log.as_deref()).await?;
    let profile = match settings.profile {
        Distance::Local => Profile::Local,
        Distance::Regions => Profile::Regions,
    };
    let faults = settings.faults_file.clone();
    Ok(Some(ClusterConfig { links, log, cookie, security, faults, profile }))
}

async fn bind(key: &str, address: SocketAddr, advertise: Option<&str>) -> Result<Listen, Failure> {
    listen(address, advertise).await.map_err(|error| {
        Failure::new(
            Exit::Conflict,
            "address",
            format!("cannot listen on {address} (`{key}`): {error}"),
            "stop what listens there, or choose another address",
        )
    })
}

/// Reads the files by which a node proves that it belongs here.
fn papers(settings: &ClusterSettings) -> Result<(Cookie, LinkSecurity), Failure> {
    let wrong = |error: &dyn std::error::Error| {
        Failure::usage(
            super::chain(error),
            "`statehouse cluster certs` makes the files that nodes need",
        )
    };
    // The settings were checked: there is a cookie, and all three files or none.
    let path = settings.cookie_file.clone().unwrap_or_default();
    let cookie = Cookie::read(&path).map_err(|error| wrong(&error))?;
    let security =
        match (&settings.tls_authority, &settings.tls_certificate, &settings.tls_private_key) {
            (Some(authority), Some(certificate), Some(key)) => {
                let loaded = MutualTls::load(authority, certificate, key);
                LinkSecurity::Mutual(loaded.map_err(|error| wrong(&error))?)
            }
            _ => LinkSecurity::Plain,
        };
    Ok((cookie, security))
}

/// Joins the cluster of the seeds if the directory has no identity yet. Waits for a member to be there.
pub(crate) async fn join_unless_there(settings: &Settings, build: Build) -> Result<(), Failure> {
    if settings.directory().join(IDENTITY_FILE).exists() {
        return Ok(());
    }
    join_now(settings, false, build).await.map(|_| ())
}

/// Returns how others will know the node of these settings.
pub(super) fn document(settings: &Settings, links: SocketAddr, log: SocketAddr) -> MemberDocument {
    let text = |given: &Option<String>, address: SocketAddr| {
        given.clone().unwrap_or_else(|| address.to_string())
    };
    let cluster = &settings.cluster;
    MemberDocument {
        links: text(&cluster.advertise_links, links),
        log: text(&cluster.advertise_log, log),
        api: settings.api.seen_by_others(settings.api.listen),
        region: settings.node.region.clone(),
        standing: None,
    }
}

/// Joins the cluster of the seeds.
pub(crate) async fn join_now(
    settings: &Settings,
    replace: bool,
    build: Build,
) -> Result<NodeId, Failure> {
    let cluster = &settings.cluster;
    let Some((links, log)) = cluster.addresses() else {
        return Err(Failure::usage(
            "a node alone cannot join".to_owned(),
            "set `cluster.links` and `cluster.log`: where the others will reach it",
        ));
    };
    let seeds = cluster.seeds().unwrap_or_default();
    if seeds.is_empty() {
        return Err(Failure::usage(
            "there is nobody to ask: `cluster.seeds` is not set".to_owned(),
            "set it to the number and log address of a member, such as 1=node-1:7600",
        ));
    }
    let (cookie, security) = papers(cluster)?;
    let document = document(settings, links, log);
    let directory = settings.directory();
    let begin = Instant::now();
    loop {
        let joining = Joining {
            data: &directory,
            number: settings.node.number,
            seeds: &seeds,
            document: document.clone(),
            replace,
            cookie: &cookie,
            security: &security,
            build,
        };
        match ask(joining).await {
            Ok(node) => return Ok(node),
            Err(NodeError::Join(JoinError::NobodyThere { .. }))
                if begin.elapsed() < JOIN_WAIT_MAX =>
            {
                tokio::time::sleep(JOIN_PAUSE).await;
            }
            Err(error) => return Err(super::refused(&error, &directory)),
        }
    }
}

/// `statehouse cluster join`.
pub(crate) async fn join(join: &Join, output: Output, build: Build) -> Result<Exit, Failure> {
    let sources = Sources::from_process(join.config.clone()).flag(
        "node.data",
        "--data",
        join.data.as_ref().map(|path| path.display()),
    );
    let loaded = settings::load(&sources)?;
    let node = join_now(&loaded.settings, join.replace, build).await?;
    output.told(&[
        ("node", format!("{node}, in {}", loaded.settings.directory().display())),
        ("next", "statehouse serve, with the same configuration".to_owned()),
    ])?;
    Ok(Exit::Ok)
}

/// Makes a new cluster in an empty directory, with its first tenant and an admin key. Doing it again finishes what was
/// interrupted and changes nothing else.
pub(crate) async fn init(init: &Init, output: Output, build: Build) -> Result<Exit, Failure> {
    let sources = Sources::from_process(init.config.clone())
        .flag("node.data", "--data", init.data.as_ref().map(|path| path.display()))
        .flag("node.shards", "--shards", init.shards)
        // A verb that a person types: only what goes wrong is worth a line.
        .flag("telemetry.level", "cluster init", Some("warn,openraft=error"));
    let mut loaded = settings::load(&sources)?;
    // Nothing is served: any free port will do.
    loaded.settings.api.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let directory = loaded.settings.directory();
    let token_file = match &init.admin_token_file {
        Some(path) => path.clone(),
        None => loaded.settings.node.data.join("admin-token"),
    };
    let was_there = directory.join(IDENTITY_FILE).exists();
    let token = match seed::kept_secret(&token_file)? {
        Some(kept) => kept,
        None if was_there => {
            return Err(Failure::new(
                Exit::Conflict,
                "already_initialised",
                format!("{} belongs to a cluster already", directory.display()),
                "start it with `statehouse serve`, or choose another --data",
            ));
        }
        None => {
            let token = api::new_token();
            seed::write_secret(&token_file, &token)?;
            token
        }
    };
    let shards = loaded.settings.node.shards;
    let started = Started::start(&loaded, Bootstrap::Found { shards }, build).await?;
    let made = seed::tenant_with_key(&started.house, &token, "admin").await;
    started.close().await;
    made?;
    let verb = if was_there { "was made before" } else { "made" };
    output.told(&[
        ("cluster", format!("{verb} in {} with {shards} shards", directory.display())),
        ("tenant", seed::TENANT.to_owned()),
        ("token", format!("in {} (all roles)", token_file.display())),
        ("next", "statehouse serve, with the same configuration".to_owned()),
    ])?;
    Ok(Exit::Ok)
}
