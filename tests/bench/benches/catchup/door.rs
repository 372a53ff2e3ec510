//! The way to a stand-in, which can be shut: who comes then is hung up on at once, and who is inside is cut off.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The door before one stand-in.
pub(crate) struct Door {
    pub(crate) at: SocketAddr,
    open: watch::Sender<bool>,
}

impl Door {
    pub(crate) async fn before(stand_in: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, stand_in, is_open.clone()));
            }
        });
        Self { at, open }
    }

    pub(crate) fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}

async fn pass(mut client: TcpStream, stand_in: SocketAddr, mut is_open: watch::Receiver<bool>) {
    if !*is_open.borrow_and_update() {
        return;
    }
    let mut inside = TcpStream::connect(stand_in).await.unwrap();
    let _ = (client.set_nodelay(true), inside.set_nodelay(true));
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut inside) => {}
        _ = is_open.wait_for(|open| !open) => {}
    }
}
