//! An address behind which one server takes the place of another, as a failover does.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Passes on what comes. Ends with this value.
pub struct Relay {
    /// Where it listens.
    pub address: String,
    target: watch::Sender<String>,
    server: JoinHandle<()>,
}

impl Relay {
    /// Starts one in front of an address.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = watch::Sender::new(target.to_owned());
        let server = tokio::spawn(accept(listener, target.subscribe()));
        Self { address, target, server }
    }

    /// New connections lead there. Those that are open stay with whom they met.
    pub fn lead_to(&self, target: &str) {
        self.target.send_replace(target.to_owned());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, target: watch::Receiver<String>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let target = target.borrow().clone();
        connections.spawn(async move {
            // Either end may go at any time; the other one learns it when the sockets are dropped.
            if let Ok(mut server) = TcpStream::connect(target).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
