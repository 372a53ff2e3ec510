//! The way to a neighbour, which can be closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::world::World;

pub(crate) struct Bridge {
    from: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Bridge {
    async fn to(neighbour: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (from, open) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
        let is_open = open.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let is_open = is_open.clone();
                let closed = async move {
                    while is_open.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::spawn(async move {
                    // A neighbour may have ended before its client.
                    let Ok(mut server) = TcpStream::connect(neighbour).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = closed => {}
                    }
                });
            }
        });
        Self { from, open }
    }

    /// Leads the world's ingester to Redshift, once it is started.
    pub(crate) async fn to_redshift(world: &World) -> Self {
        let redshift = world.standins.redshift.addr();
        let bridge = Self::to(redshift).await;
        let port = |at: SocketAddr| format!("port = {}\n", at.port());
        world.configure(&port(redshift), &port(bridge.from));
        bridge
    }

    pub(crate) fn set(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }
}
