//! Where the nodes of `statehouse dev --nodes N` listen, and the settings that each of them gets.
//!
//! A new DATA gets the ports that follow from `--listen`, or any free ones for port 0. From then on its nodes keep theirs:
//! their peers know them there. Flags that say otherwise are refused, because they would change nothing.
//!
//! Deliberately absent: starting anything.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use super::{Dev, mismatch};
use crate::{
    cli::{exit::Failure, settings},
    config,
    serve::{SETTINGS_FILE, chain},
};

/// Name of the file in DATA with the cookie that all its nodes share.
pub(super) const COOKIE_FILE: &str = "cookie";
/// How far above the API's ports those of the links and the logs are.
const LINKS_ABOVE: u16 = 100;
const LOG_ABOVE: u16 = 200;

/// One node of the cluster.
pub(super) struct Member {
    /// Its number, from 1.
    pub(super) number: u32,
    /// The file with its settings.
    pub(super) settings: PathBuf,
    /// Where its API listens.
    pub(super) api: SocketAddr,
}

/// Where a node listens.
#[derive(Clone, Copy)]
struct Places {
    api: SocketAddr,
    links: SocketAddr,
    log: SocketAddr,
}

impl Dev {
    /// Writes the settings of every node, and founds the cluster in the first one's directory.
    pub(super) fn members(&self, nodes: u32, shards: u32) -> Result<Vec<Member>, Failure> {
        let mut seeds: Vec<(u32, SocketAddr)> = Vec::new();
        let mut members = Vec::new();
        let mut taken = BTreeSet::new();
        for number in 1..=nodes {
            let directory = config::node_directory(&self.data, number);
            let settings = directory.join(SETTINGS_FILE);
            let places = match kept(&settings)? {
                Some(places) => self.agree(number, places)?,
                None => self.places(number, &mut taken)?,
            };
            seeds.push((number, places.log));
            let make = || {
                std::fs::create_dir_all(&directory)?;
                std::fs::set_permissions(
                    &directory,
                    std::os::unix::fs::PermissionsExt::from_mode(0o700),
                )?;
                std::fs::write(&settings, self.settings(number, shards, places, &seeds))
            };
            make().map_err(|error| Failure::file("write", &settings, &error))?;
            members.push(Member { number, settings, api: places.api });
        }
        let first = config::node_directory(&self.data, 1);
        let made = statehouse_cluster::found_unless_there(&first, 1, shards);
        made.map_err(|error| Failure::broken(chain(&error)))?;
        Ok(members)
    }

    /// Returns the places of a node that has been there before, unless `--listen` asks for others.
    fn agree(&self, number: u32, kept: Places) -> Result<Places, Failure> {
        let Some(asked) = self.listen else { return Ok(kept) };
        // Port 0 asks for any free port, so that the one it had will do.
        let is_same = if asked.port() == 0 {
            asked.ip() == kept.api.ip()
        } else {
            above(asked, number, 0)? == kept.api
        };
        if is_same {
            return Ok(kept);
        }
        Err(mismatch(
            format!(
                "node-{number} of {} listens on {}, and --listen {asked} would have it elsewhere",
                self.data.display(),
                kept.api
            ),
            "leave --listen out, or choose another --data",
        ))
    }

    /// Chooses the places of a new node.
    fn places(&self, number: u32, taken: &mut BTreeSet<u16>) -> Result<Places, Failure> {
        let listen = self.listen();
        if listen.port() > 0 {
            return Ok(Places {
                api: above(listen, number, 0)?,
                links: above(listen, number, LINKS_ABOVE)?,
                log: above(listen, number, LOG_ABOVE)?,
            });
        }
        // Any free ports, kept in the node's settings from then on.
        let ip = listen.ip();
        let mut free = || loop {
            let bound = TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr());
            match bound {
                Ok(address) if taken.insert(address.port()) => return Ok(address),
                Ok(_) => {}
                Err(error) => {
                    return Err(Failure::broken(format!("no free port on {ip}: {error}")));
                }
            }
        };
        Ok(Places { api: free()?, links: free()?, log: free()? })
    }

    fn settings(
        &self,
        number: u32,
        shards: u32,
        places: Places,
        seeds: &[(u32, SocketAddr)],
    ) -> String {
        let text = |value: &str| toml::Value::from(value).to_string();
        let path = |path: &Path| text(&path.display().to_string());
        let data = std::path::absolute(&self.data).unwrap_or_else(|_| self.data.clone());
        let seeds: Vec<String> =
            seeds.iter().map(|(number, log)| format!("{number}={log}")).collect();
        let mut lines = format!(
            "node.number = {number}\nnode.data = {}\nnode.shards = {shards}\napi.listen = {}\n",
            path(&data),
            text(&places.api.to_string()),
        );
        let _ = write!(
            lines,
            "cluster.links = {}\ncluster.log = {}\ncluster.seeds = {}\ncluster.cookie_file = {}\n\
             cluster.insecure_loopback = true\ncluster.faults_file = {}\n\
             builtin.http_allow = \"127.0.0.0/8,::1/128\"\n\
             telemetry.level = {}\ntelemetry.format = \"text\"\n",
            text(&places.links.to_string()),
            text(&places.log.to_string()),
            text(&seeds.join(",")),
            path(&data.join(COOKIE_FILE)),
            path(&config::node_directory(&data, number).join("faults.json")),
            text(&self.log),
        );
        lines
    }
}

/// Returns an address of a node: its number counts from 1, and `more` leads from the API's port to the others.
fn above(listen: SocketAddr, number: u32, more: u16) -> Result<SocketAddr, Failure> {
    let offset = u16::try_from(number - 1).ok();
    let port = offset.and_then(|offset| listen.port().checked_add(offset)?.checked_add(more));
    port.map(|port| SocketAddr::new(listen.ip(), port)).ok_or_else(|| {
        Failure::usage(format!("{listen} leaves no room for {number} nodes"), "choose a lower port")
    })
}

/// Reads where a node listened before: its peers know it there.
fn kept(settings: &Path) -> Result<Option<Places>, Failure> {
    if !settings.exists() {
        return Ok(None);
    }
    let sources = config::Sources { file: Some(settings.to_owned()), ..config::Sources::default() };
    // A file that cannot be read is no reason to move a node to where nobody looks for it.
    let loaded = settings::load(&sources)?.settings;
    let addresses = loaded.cluster.addresses();
    Ok(addresses.map(|(links, log)| Places { api: loaded.api.listen, links, log }))
}
