//! The way from a verb to a server: which servers, which token, which tenant, how long.
//!
//! A [`Session`] is what the global flags come to. It sends a request and returns the answer, or prints the
//! curl line instead. It finds the addresses of the `dev` nodes and their token by itself when nothing else was said,
//! so that the first five minutes need no flags.
//!
//! Deliberately absent: retries and the choice among servers (the SDK's), and what an answer means.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use statehouse_sdk::{Budget, CallError, Client, Options, Request, Response};

use super::{
    curl,
    exit::{Exit, Failure},
    output::{Format, Output},
};

/// Most attempts of one request: as often as it is told to come back; the time that it has ends it sooner.
const ATTEMPTS_MAX: u32 = 64;

/// Most attempts at servers of which none takes a connection: enough to outlive a restart of a node, few enough that a
/// wrong address shows at once.
const UNREACHED_MAX: u32 = 6;

/// With several servers, the part of the time that one of them may take to answer: one that hangs must not use up
/// the time in which another could have answered.
const ATTEMPT_SHARE: u32 = 3;

/// Most nodes of a `dev` cluster.
const DEV_NODES_MAX: u32 = 16;

/// Where a `dev` node keeps its things unless told otherwise.
pub(crate) const DEV_DATA: &str = "./statehouse-data";

/// Where a server is expected when nothing says otherwise.
pub(crate) const DEV_SERVER: &str = "http://127.0.0.1:7400";

/// Name of the file in DATA that holds a `dev` node's token.
pub(crate) const DEV_TOKEN_FILE: &str = "dev-token";

/// Name of the file in DATA/node-K that holds the address of the running API.
pub(crate) const API_ADDRESS_FILE: &str = "api-address";

/// Flags that every verb takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Form of the result.
    #[arg(short, long, global = true, value_enum, default_value = "table", value_name = "FORM")]
    pub(crate) output: Format,
    /// Tenant that the verb is about.
    #[arg(long, global = true, default_value = "default", value_parser = super::tenant_id)]
    pub(crate) tenant: String,
    /// Addresses of the API, separated by commas [default: those of ./statehouse-data, else http://127.0.0.1:7400].
    #[arg(
        long,
        global = true,
        alias = "server",
        env = "STATEHOUSE_SERVERS",
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub(crate) servers: Vec<String>,
    /// File that holds the token [default: $STATEHOUSE_TOKEN, else ./statehouse-data/dev-token].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates to trust for https addresses, in PEM form [default: those of the system].
    #[arg(long, global = true, env = "STATEHOUSE_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Print the equivalent curl line instead of sending the request.
    #[arg(long, global = true)]
    pub(crate) curl: bool,
    /// How long to wait for an answer, for example 500ms, 10s or 1m.
    #[arg(long, global = true, default_value = "10s", value_parser = super::duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
}

/// Where the token was found; a curl line names the place, never the token.
#[derive(Clone, Debug)]
enum TokenPlace {
    File(PathBuf),
    Variable,
    Nowhere,
}

/// What the global flags come to.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// How results are printed.
    pub(crate) output: Output,
    /// The tenant.
    pub(crate) tenant: String,
    /// How long one request may take.
    pub(crate) timeout: Duration,
    servers: Vec<String>,
    token: Option<String>,
    token_place: TokenPlace,
    ca_file: Option<PathBuf>,
    curl: bool,
}

/// A server's yes.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body; a text that is no JSON stands as a JSON text.
    pub(crate) body: Value,
    /// Whether it is the stored answer of an earlier attempt.
    pub(crate) is_replayed: bool,
}

impl Reply {
    fn read(response: &Response) -> Self {
        let body = serde_json::from_slice(&response.bytes);
        Self {
            status: response.status,
            body: body.unwrap_or_else(|_| Value::String(response.text())),
            is_replayed: response.is_replayed(),
        }
    }
}

impl Session {
    /// Looks for servers and token in their places.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let (token, token_place) = find_token(global.token_file.as_deref())?;
        let servers = if global.servers.is_empty() {
            find_servers(Path::new(DEV_DATA))
        } else {
            global.servers.clone()
        };
        Ok(Self {
            output: Output::new(global.output),
            tenant: global.tenant.clone(),
            timeout: global.timeout,
            servers: servers.iter().map(|text| with_scheme(text)).collect(),
            token,
            token_place,
            ca_file: global.ca_file.clone(),
            curl: global.curl,
        })
    }

    /// Returns a path below the tenant: `/v1/tenants/{t}` and the given rest.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/tenants/{}{rest}", self.tenant)
    }

    /// Returns the addresses of the API.
    pub(crate) fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Returns the session of one of the servers alone.
    pub(crate) fn at(&self, server: &str) -> Self {
        Self { servers: vec![server.to_owned()], ..self.clone() }
    }

    /// Returns the token, if one was found.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Reads the certificates to trust, if a file was named.
    pub(crate) fn authority_pem(&self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let read = std::fs::read(path);
        read.map(Some).map_err(|error| Failure::file("read certificates in", path, &error))
    }

    /// Returns whether requests are printed instead of sent.
    pub(crate) fn is_curl(&self) -> bool {
        self.curl
    }

    /// Makes the client of these servers.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let mut options = Options::new(self.servers.iter().map(String::as_str));
        options.token.clone_from(&self.token);
        options.tenant.clone_from(&self.tenant);
        let attempt =
            if self.servers.len() > 1 { self.timeout / ATTEMPT_SHARE } else { self.timeout };
        options.budget = Budget {
            total: self.timeout,
            attempt,
            attempts_max: ATTEMPTS_MAX,
            unreached_max: UNREACHED_MAX,
        };
        options.authority_pem = self.authority_pem()?;
        Client::new(options).map_err(|error| {
            Failure::usage(error.to_string(), "look at --servers, --token-file and --ca-file")
        })
    }

    /// Sends a request and returns the answer; with `--curl` prints it and returns nothing.
    pub(crate) async fn run(&self, request: &Request) -> Result<Option<Reply>, Failure> {
        if self.curl {
            self.output.line(&self.curl_line(request))?;
            return Ok(None);
        }
        match self.client()?.send(request.clone()).await.done() {
            Ok(response) => Ok(Some(Reply::read(&response))),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Sends a request and prints the answer; `table` says how people see it.
    pub(crate) async fn show(
        &self,
        request: &Request,
        table: impl FnOnce(&Value) -> String,
    ) -> Result<Exit, Failure> {
        if let Some(reply) = self.run(request).await? {
            self.output.show(&reply.body, table)?;
        }
        Ok(Exit::Ok)
    }

    /// Returns the curl line of a request.
    pub(crate) fn curl_line(&self, request: &Request) -> String {
        let token = match &self.token_place {
            TokenPlace::File(path) => Some(format!("$(cat {})", path.display())),
            TokenPlace::Variable => Some("$STATEHOUSE_TOKEN".to_owned()),
            TokenPlace::Nowhere => None,
        };
        let server = self.servers.first().map_or(DEV_SERVER, String::as_str);
        curl::line(request, server, token.as_deref(), self.ca_file.as_deref())
    }

    /// Says what a call that was not done means for the person who typed it.
    pub(crate) fn failure(&self, error: CallError) -> Failure {
        let (key, why, problem, tried, is_unknown) = match error {
            CallError::Rejected(problem) => return of_problem(&problem),
            CallError::Failed(failed) => {
                (failed.key, failed.why, failed.problem, failed.tried, false)
            }
            CallError::Unknown(unknown) => {
                (unknown.key, unknown.why, unknown.problem, unknown.tried, true)
            }
        };
        let exit = if is_unknown { "it may have been done" } else { "nothing was done" };
        let servers = if tried.is_empty() { &self.servers } else { &tried };
        let mut failure = match &problem {
            Some(problem) => of_problem(problem),
            None => {
                let code = if is_unknown { "unknown_outcome" } else { "unreachable" };
                let next = format!(
                    "is a server running at {}? `statehouse dev` starts one; --servers names another",
                    servers.join(", ")
                );
                Failure::new(Exit::Unavailable, code, format!("{exit}: {why}"), next)
            }
        };
        if is_unknown && problem.is_some() {
            // The last answer speaks of its own attempt alone.
            failure.exit = Exit::Unavailable;
            failure.notes.push("an earlier attempt may have been done".to_owned());
        }
        // Where there is no answer, the next step names them.
        if problem.is_some() && self.servers.len() > 1 {
            failure.notes.push(format!("tried {}", servers.join(", ")));
        }
        if let Some(key) = key {
            failure
                .notes
                .push(format!("repeat it with --key {key}: the same key never acts twice"));
        }
        failure
    }
}

fn of_problem(problem: &statehouse_sdk::Problem) -> Failure {
    let body = match problem.response.json() {
        Value::Object(members) => Value::Object(members),
        // A proxy's page, or nothing at all: the status is all there is.
        _ => serde_json::json!({"detail": problem.detail}),
    };
    let failure = Failure::problem(problem.status, body);
    match problem.status {
        401 => Failure {
            next: "give a token: --token-file FILE, or STATEHOUSE_TOKEN; `statehouse dev` writes one to \
                   ./statehouse-data/dev-token"
                .to_owned(),
            ..failure
        },
        _ => failure,
    }
}

fn find_token(file: Option<&Path>) -> Result<(Option<String>, TokenPlace), Failure> {
    if let Some(path) = file {
        let token =
            read_token(path).map_err(|error| Failure::file("read the token in", path, &error))?;
        return Ok((Some(token), TokenPlace::File(path.to_owned())));
    }
    if let Some(token) = std::env::var("STATEHOUSE_TOKEN").ok().filter(|token| !token.is_empty()) {
        return Ok((Some(token), TokenPlace::Variable));
    }
    let path = Path::new(DEV_DATA).join(DEV_TOKEN_FILE);
    Ok(match read_token(&path) {
        Ok(token) => (Some(token), TokenPlace::File(path)),
        Err(_) => (None, TokenPlace::Nowhere),
    })
}

fn read_token(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned())
}

// The addresses of every `dev` node that has written its own. One that died left its behind; the client passes it over.
fn find_servers(data: &Path) -> Vec<String> {
    let address = |node: u32| {
        let path = data.join(format!("node-{node}")).join(API_ADDRESS_FILE);
        let text = std::fs::read_to_string(path).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let found: Vec<String> = (1..=DEV_NODES_MAX).filter_map(address).collect();
    if found.is_empty() { vec![DEV_SERVER.to_owned()] } else { found }
}

fn with_scheme(text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    if text.contains("://") { text.to_owned() } else { format!("http://{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dev_node_that_wrote_its_address_is_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_servers(folder.path()), [DEV_SERVER]);
        for (node, text) in
            [(3, "http://127.0.0.1:7403\n"), (1, "http://127.0.0.1:7401\n"), (2, "\n"), (17, "x")]
        {
            let node = folder.path().join(format!("node-{node}"));
            std::fs::create_dir(&node).unwrap();
            std::fs::write(node.join(API_ADDRESS_FILE), text).unwrap();
        }
        assert_eq!(find_servers(folder.path()), ["http://127.0.0.1:7401", "http://127.0.0.1:7403"]);
    }

    #[test]
    fn a_failure_names_the_servers_that_were_tried() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let three = Session {
            output: Output::new(Format::Table),
            tenant: "default".to_owned(),
            timeout: Duration::from_secs(1),
            servers: texts(&["http://a", "http://b", "http://c"]),
            token: None,
            token_place: TokenPlace::Nowhere,
            ca_file: None,
            curl: false,
        };
        let failed = |tried: &[&str], problem| {
            CallError::Failed(Box::new(statehouse_sdk::Failure {
                key: Some("k-1".to_owned()),
                why: "connection refused".to_owned(),
                problem,
                attempts: 2,
                tried: texts(tried),
            }))
        };
        expect_test::expect![[r#"
            error: unreachable: nothing was done: connection refused
              repeat it with --key k-1: the same key never acts twice
              next: is a server running at http://b, http://a? `statehouse dev` starts one; --servers names another"#]]
        .assert_eq(&three.failure(failed(&["http://b", "http://a"], None)).to_string());
        let problem = statehouse_sdk::Problem::read(Response {
            status: 503,
            headers: Vec::new(),
            bytes: r#"{"code":"no_leader","detail":"shard 3 has no leader"}"#.into(),
            server: "http://a".to_owned(),
            key: Some("k-1".to_owned()),
            attempts: 2,
        });
        let refused = three.failure(failed(&["http://b", "http://a"], Some(problem))).to_string();
        assert!(refused.contains("\n  tried http://b, http://a\n"), "{refused}");
        // The last attempt was refused; an earlier one may have arrived.
        let problem = statehouse_sdk::Problem::read(Response {
            status: 401,
            headers: Vec::new(),
            bytes: r#"{"code":"unauthenticated","detail":"no such key"}"#.into(),
            server: "http://a".to_owned(),
            key: Some("k-1".to_owned()),
            attempts: 2,
        });
        let doubt = three.failure(CallError::Unknown(Box::new(statehouse_sdk::Unknown {
            key: Some("k-1".to_owned()),
            why: "unauthenticated: no such key".to_owned(),
            problem: Some(problem),
            attempts: 2,
            tried: texts(&["http://a"]),
        })));
        assert_eq!(doubt.exit as u8, Exit::Unavailable as u8);
        assert!(doubt.to_string().contains("an earlier attempt may have been done"), "{doubt}");
    }
}
