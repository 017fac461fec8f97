//! A real server as a child process: started, waited for, killed, started again on the same data.
//!
//! For scenario tests and drills. A process started here ends with its handle: no test leaves a server behind. Its
//! output goes to files, because a pipe that nobody reads stops a server as surely as a fault does.
//!
//! Plain blocking code, without a runtime: the tests that use it wait for little else. Signals are sent with the
//! system's own `kill`, always by process id; this crate has no unsafe code.
//!
//! Invariant: a process counts as started when `/readyz` answered 200, not when it printed something.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(5);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables set for it besides the inherited ones.
    pub environment: Vec<(String, String)>,
    /// The directory for its `stdout.log` and `stderr.log`; made when it is missing.
    pub logs: PathBuf,
    /// `host:port` of its API, if known; else the first `http://` address that it prints is taken.
    pub address: Option<String>,
}

/// Why a process is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program or its log files could not be opened.
    #[error("start {binary}")]
    Start {
        /// The program.
        binary: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("it ended with {status} before it was ready: {errors}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to its error output.
        errors: String,
    },
    /// It was not ready in time.
    #[error("it was not ready in {} ms: {last}", .after.as_millis())]
    NotReady {
        /// The time it had.
        after: Duration,
        /// What the last look showed.
        last: String,
    },
    /// It did not end in time after it was asked to.
    #[error("it did not end in {} ms", .0.as_millis())]
    NotEnded(Duration),
    /// A signal could not be sent, or the end could not be awaited.
    #[error("signal process {pid}")]
    Signal {
        /// The process.
        pid: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    child: Child,
    address: String,
    ready_after: Duration,
}

impl Server {
    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// It did not start, ended, or was not ready in time; then nothing is left running.
    pub fn start(launch: Launch, within: Duration) -> Result<Self, ServerError> {
        let begun = Instant::now();
        let failed = |source| ServerError::Start { binary: launch.binary.clone(), source };
        fs::create_dir_all(&launch.logs).map_err(failed)?;
        let open =
            |name: &str| OpenOptions::new().create(true).append(true).open(launch.logs.join(name));
        let (stdout, stderr) =
            (open("stdout.log").map_err(failed)?, open("stderr.log").map_err(failed)?);
        let printed_before = stdout.metadata().map_err(failed)?.len();
        let child = Command::new(&launch.binary)
            .args(&launch.arguments)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(failed)?;
        let mut process =
            Self { address: String::new(), ready_after: Duration::ZERO, child, launch };
        // From here on an early return drops `process`, which kills the child.
        process.wait_until_ready(printed_before, begun, within)?;
        process.ready_after = begun.elapsed();
        Ok(process)
    }

    fn wait_until_ready(
        &mut self,
        printed_before: u64,
        begun: Instant,
        within: Duration,
    ) -> Result<(), ServerError> {
        let mut last = "it printed no address".to_owned();
        loop {
            if let Some(status) =
                self.child.try_wait().map_err(|source| self.signal_error(source))?
            {
                return Err(ServerError::Ended { status, errors: self.errors() });
            }
            if let Some(address) =
                self.launch.address.clone().or_else(|| self.printed_address(printed_before))
            {
                match http_get(&address, "/readyz", within.min(Duration::from_secs(1))) {
                    Ok((200, _)) => {
                        self.address = address;
                        return Ok(());
                    }
                    Ok((status, body)) => last = format!("/readyz answers {status}: {body}"),
                    Err(error) => last = format!("/readyz at {address}: {error}"),
                }
            }
            if begun.elapsed() > within {
                return Err(ServerError::NotReady { after: within, last });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Returns `host:port` of its API.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the base address of its API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how long the last start took until it was ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Tells whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it at once (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// The system refused.
    pub fn kill(&mut self) -> Result<(), ServerError> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|source| self.signal_error(source))
    }

    /// Asks it to end (SIGTERM) and returns how it ended.
    ///
    /// # Errors
    /// It did not end in time; it still runs then.
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus, ServerError> {
        self.signal("TERM")?;
        let asked = Instant::now();
        loop {
            match self.child.try_wait().map_err(|source| self.signal_error(source))? {
                Some(status) => return Ok(status),
                None if asked.elapsed() > within => return Err(ServerError::NotEnded(within)),
                None => std::thread::sleep(POLL),
            }
        }
    }

    /// Stops it without ending it (SIGSTOP): it keeps its sockets and answers nothing.
    ///
    /// # Errors
    /// The system refused.
    pub fn pause(&self) -> Result<(), ServerError> {
        self.signal("STOP")
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// The system refused.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal("CONT")
    }

    /// Kills it if it still runs, and starts it again the same way.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(mut self, within: Duration) -> Result<Self, ServerError> {
        if self.is_running() {
            self.kill()?;
        }
        let launch = self.launch.clone();
        drop(self);
        Self::start(launch, within)
    }

    /// Returns the end of what it wrote to its error output.
    pub fn errors(&self) -> String {
        const TAIL: usize = 2_000;
        let bytes = fs::read(self.launch.logs.join("stderr.log")).unwrap_or_default();
        let tail = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default();
        String::from_utf8_lossy(tail).trim().to_owned()
    }

    fn printed_address(&self, from: u64) -> Option<String> {
        let mut file = File::open(self.launch.logs.join("stdout.log")).ok()?;
        file.seek(SeekFrom::Start(from)).ok()?;
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        // The line must be whole: half a port is a port too.
        let whole = text.get(..text.rfind('\n')?)?;
        let rest = whole.split_once("http://")?.1;
        let end =
            rest.find(|letter: char| letter == '/' || letter.is_whitespace()).unwrap_or(rest.len());
        let address = rest.get(..end)?.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        address.contains(':').then(|| address.to_owned())
    }

    fn signal(&self, name: &str) -> Result<(), ServerError> {
        let status =
            Command::new("sh").arg("-c").arg(format!("kill -s {name} {}", self.pid())).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                Err(self.signal_error(io::Error::other(format!("kill ended with {status}"))))
            }
            Err(source) => Err(self.signal_error(source)),
        }
    }

    fn signal_error(&self, source: io::Error) -> ServerError {
        ServerError::Signal { pid: self.pid(), source }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a loopback address that is free now.
///
/// For servers that must come back at the same place after a restart; the system does not give a freed port to the
/// next asker at once, so two tests do not meet there.
///
/// # Errors
/// No port is left.
pub fn free_address() -> io::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

/// Asks `host:port` for a path and returns status and body; blocks for at most about twice the time.
///
/// # Errors
/// No connection, no answer in time, or no HTTP.
pub fn http_get(address: &str, path: &str, within: Duration) -> io::Result<(u16, String)> {
    let target =
        address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no such address"))?;
    let mut stream = TcpStream::connect_timeout(&target, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) =
        text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("no status"))?, body.to_owned()))
}

#[cfg(test)]
mod tests;
