//! A way to the bus that breaks on request.

use std::net::Ipv4Addr;

use tokio::{
    io::copy,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// The state of the connections that a relay has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Everything passes.
    #[default]
    Open,
    /// Nothing comes back from the server.
    Mute,
}

/// Relays connections to a server. New connections always pass, for as long as this value lives.
pub(crate) struct Relay {
    pub(crate) url: String,
    state: watch::Sender<State>,
    accepting: AbortHandle,
}

impl Relay {
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let server = server.strip_prefix("nats://").unwrap().to_owned();
        let state = watch::Sender::<State>::default();
        let states = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server.clone(), states.subscribe()));
            }
        });
        Self { url, state, accepting: accepting.abort_handle() }
    }

    /// Withholds the server's answers from now on.
    pub(crate) fn mute(&self) {
        self.state.send_replace(State::Mute);
    }

    /// Breaks all connections, with what was withheld. New ones pass at once.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Relays both directions, until one of them ends or the connection is cut.
async fn relay(
    client: TcpStream,
    server: String,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let up = copy(&mut from_client, &mut to_server);
    let down = async {
        tokio::select! {
            biased;
            _ = state.wait_for(|state| *state == State::Mute) => {}
            result = copy(&mut from_server, &mut to_client) => return result,
        }
        let _ = state.wait_for(|state| *state == State::Open).await;
        Ok(0)
    };
    tokio::select! {
        result = up => result.map(drop),
        result = down => result.map(drop),
    }
}
