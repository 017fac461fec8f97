//! What asks a process to end: SIGTERM, SIGINT, and for a child of `dev` the end of its standard input.
//!
//! The two signals are listened for once, and from then on kept until somebody asks: a signal that comes while nobody
//! waits for one is not lost, and does not kill the process in the middle of something either.
//!
//! Deliberately absent: what ending means. A node drains, `dev` stops its nodes.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::cli::exit::Failure;

/// The requests to end this process.
#[derive(Debug)]
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<oneshot::Receiver<()>>,
    was_asked: bool,
}

impl Ending {
    /// Listens from now on. SIGTERM is how a platform ends a process, SIGINT how a person does.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = || Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        let (terminate, interrupt) = listen().map_err(|error: io::Error| {
            Failure::broken(format!("cannot listen for signals: {error}"))
        })?;
        Ok(Self { terminate, interrupt, stdin: None, was_asked: false })
    }

    /// Takes the end of standard input for a request as well: whoever held the other side is gone.
    #[must_use]
    pub(crate) fn or_stdin_ends(self) -> Self {
        let (ended, stdin) = oneshot::channel();
        // The thread ends with the process: nothing else can end a blocking read.
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            // Nobody waits any more when the process is ending already.
            let _ = ended.send(());
        });
        Self { stdin: Some(stdin), ..self }
    }

    /// Waits for a request to end; once there was one, it returns at once.
    pub(crate) async fn asked(&mut self) {
        if self.was_asked {
            return;
        }
        let stdin = async {
            match &mut self.stdin {
                Some(stdin) => drop(stdin.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = stdin => {}
        }
        self.was_asked = true;
    }

    /// Does work unless it is asked to end before; nothing then.
    pub(crate) async fn unless_asked<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.asked() => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test for all: a signal reaches every listener of the process.
    #[tokio::test]
    async fn a_signal_that_came_while_nobody_waited_is_heard_and_stays_heard() {
        let mut ending = Ending::listen().unwrap();
        assert_eq!(ending.unless_asked(async { 7 }).await, Some(7));
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::INT).unwrap();
        ending.asked().await;
        ending.asked().await;
        assert_eq!(ending.unless_asked(std::future::pending::<()>()).await, None);
    }
}
