//! The door of the node links: whoever dials us says hello first, and only then hears any actor of it.
//!
//! A node dials only when it has no link, so a link that we still have with it is taken down for the new one.
//!
//! Deliberately absent: certificates and the number of strangers at once, which the socket sees to.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    Shared, Side, TROUBLE_PAUSE,
    hello::{self, Hello, HelloError, Verdict},
};
use crate::socket::Socket;

/// How long a new link waits for the one before it to be taken down.
const TAKE_OVER_MAX: Duration = Duration::from_secs(2);

/// Takes connections for ever and lets in who says a fitting hello; ended by its task's end.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    guests.spawn(receive(Arc::clone(&shared), tcp));
                }
                Err(error) => {
                    warn!(%error, "the listener of the node links cannot take a connection");
                    sleep(TROUBLE_PAUSE).await;
                }
            },
            Some(_) = guests.join_next() => {}
        }
    }
}

async fn receive(shared: Arc<Shared>, tcp: TcpStream) {
    // What goes wrong before the hello was logged at the door.
    let Ok(socket) = shared.wire.accept(tcp).await else { return };
    let remote = socket.remote();
    if let Err(error) = welcome(&shared, socket).await {
        shared.wire.refuse(remote, "hello", &error);
    }
}

async fn welcome(shared: &Arc<Shared>, mut socket: Socket) -> Result<(), HelloError> {
    let hello = hello::listen(&mut socket).await?;
    let own = Hello::new(shared.cluster, shared.own, hello.own);
    let mut verdict = hello.judge(&own, |node| shared.knows(node), |number| socket.proves(number));
    if verdict == Verdict::Welcome {
        verdict = make_room(shared, hello.own.number).await;
        socket.set_peer(hello.own.number);
    }
    hello::answer(&mut socket, Hello { verdict, ..own }).await?;
    match verdict {
        Verdict::Welcome if shared.hand_over(socket, hello.own, Side::Accepted) => Ok(()),
        Verdict::Welcome => Err(HelloError::Refused(Verdict::Occupied)),
        // Both pass by themselves.
        Verdict::Leaving | Verdict::Unready => Ok(()),
        refused => Err(HelloError::Refused(refused)),
    }
}

// A node dials only when it has no link, so one that we still have with it is dead.
async fn make_room(shared: &Shared, number: u32) -> Verdict {
    if *shared.is_leaving.borrow() {
        return Verdict::Leaving;
    }
    shared.book.cut(number);
    match timeout(TAKE_OVER_MAX, shared.book.gone(number)).await {
        Ok(()) => Verdict::Welcome,
        Err(_) => Verdict::Occupied,
    }
}
