//! A line to the API server that a test can freeze and cut.

use std::net::{Ipv4Addr, SocketAddr};

use kube::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What the line does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Passes them on.
    Up,
    /// Holds them back; connections stay open.
    Frozen,
    /// Closes every connection, new ones too.
    Cut,
}

/// A TCP relay in front of the API server.
pub struct Line {
    state: watch::Sender<State>,
    _relay: AbortOnDropHandle<()>,
}

impl Line {
    /// A relay to the server of this configuration, and a configuration that goes through it.
    pub async fn to(mut config: Config) -> (Self, Config) {
        let server = config.cluster_url.authority().expect("an address").to_string();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        config.cluster_url = format!("https://{address}").parse().expect("a URL");
        let (state, states) = watch::channel(State::Up);
        let relay = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *states.borrow() == State::Cut {
                    continue;
                }
                let (server, states) = (server.clone(), states.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else {
                        return;
                    };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        () = relay(from_client, to_server, states.clone()) => {}
                        () = relay(from_server, to_client, states.clone()) => {}
                        () = reached(states, State::Cut) => {}
                    }
                });
            }
        });
        (Self { state, _relay: AbortOnDropHandle::new(relay) }, config)
    }

    /// Holds everything back from now on.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Closes all connections and opens no more.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Passes on again, what was held back included.
    pub fn restore(&self) {
        self.state.send_replace(State::Up);
    }
}

async fn reached(mut states: watch::Receiver<State>, wanted: State) {
    let _ = states.wait_for(|state| *state == wanted).await;
}

async fn relay(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    states: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        reached(states.clone(), State::Up).await;
        if to.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
}
