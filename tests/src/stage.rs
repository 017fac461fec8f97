//! A node on a stage of its own: the real binary, a directory that ends with the test, an address that it keeps.
//!
//! Deliberately absent: clients that retry. A story says itself what it repeats.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use statehouse_lab::{Launch, Server, ServerError, free_address};

use crate::{
    binary::binary,
    node::{Answer, ask, token},
};

/// Long enough for a start on a busy machine; nothing is measured by it.
pub const START_WITHIN: Duration = Duration::from_secs(60);

/// A node of `statehouse dev` with its data.
#[derive(Debug)]
pub struct Stage {
    folder: PathBuf,
    /// The running server.
    pub server: Server,
    token: String,
}

/// How the node of a folder is started: always the same way.
fn launch(folder: &Path, address: &str) -> Launch {
    let data = folder.join("data").display().to_string();
    Launch {
        binary: binary().to_owned(),
        arguments: ["dev", "--data", &data, "--listen", address].map(str::to_owned).into(),
        environment: Vec::new(),
        logs: folder.join("logs"),
        address: Some(address.to_owned()),
    }
}

impl Stage {
    /// Starts a node in a folder, which may hold its data already.
    ///
    /// # Errors
    /// The node did not start; the error has what it wrote.
    pub fn open(folder: &Path) -> Result<Self, ServerError> {
        Self::open_with(folder, &[])
    }

    /// Starts a node with more settings in its environment.
    ///
    /// # Errors
    /// As [`Stage::open`].
    pub fn open_with(folder: &Path, environment: &[(&str, &str)]) -> Result<Self, ServerError> {
        let address = free_address().expect("loopback has a free port");
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(pair).collect();
        let launch = Launch { environment, ..launch(folder, &address) };
        let server = Server::start(launch, START_WITHIN)?;
        let token = token(&folder.join("data"));
        Ok(Self { folder: folder.to_owned(), server, token })
    }

    /// Starts a node that has much to say, on a standard error that takes nothing, like a file on a full disk.
    ///
    /// # Errors
    /// The node did not start.
    pub fn open_mute(folder: &Path) -> Result<Self, ServerError> {
        let address = free_address().expect("loopback has a free port");
        let Launch { binary, arguments, environment, logs, address } = launch(folder, &address);
        let exec = ["-c", "exec \"$0\" \"$@\" 2>/dev/full"].map(str::to_owned);
        let program = binary.display().to_string();
        let arguments = exec.into_iter().chain([program]).chain(arguments);
        let arguments = arguments.chain(["--log".to_owned(), "debug".to_owned()]).collect();
        let launch = Launch { binary: "/bin/sh".into(), arguments, environment, logs, address };
        let server = Server::start(launch, START_WITHIN)?;
        let token = token(&folder.join("data"));
        Ok(Self { folder: folder.to_owned(), server, token })
    }

    /// Returns the node's data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns the directory of the one node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.data().join("node-1")
    }

    /// Returns the development token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Kills the node with SIGKILL and starts it again on the same data and address.
    ///
    /// # Errors
    /// It did not start again.
    pub fn kill_and_start(self) -> Result<Self, ServerError> {
        let Self { folder, server, token } = self;
        Ok(Self { server: server.restart(START_WITHIN)?, folder, token })
    }

    /// Sends a request with the token, and with a key if there is one.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn ask(&self, request: &str, key: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("authorization", bearer.as_str())];
        if !key.is_empty() {
            headers.push(("idempotency-key", key));
        }
        ask(self.server.address(), request, &headers, body)
            .unwrap_or_else(|error| panic!("{request}: {error}\n{}", self.server.errors()))
    }

    /// Starts an instance of the sample under a key of its own name.
    #[must_use]
    pub fn start_sample(&self, id: &str) -> Answer {
        let body = format!(r#"{{"definition":"approval","id":"{id}","input":{{"amount":12}}}}"#);
        self.ask("POST /v1/tenants/default/instances", &format!("start-{id}"), &body)
    }

    /// Reads an instance.
    #[must_use]
    pub fn read(&self, id: &str) -> Answer {
        self.ask(&format!("GET /v1/tenants/default/instances/{id}"), "", "")
    }
}
