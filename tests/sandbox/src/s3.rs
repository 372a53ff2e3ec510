//! S3, by `s3s-fs`: objects are files below a folder, requests must be signed with the one key.

mod etags;

use std::path::Path;

use anyhow::Context;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The only access key id.
pub const ACCESS_KEY: &str = "sandbox";
/// Its secret.
pub const SECRET_KEY: &str = "sandbox-secret";
/// The only bucket.
pub const BUCKET: &str = "livestream";
/// Its region.
pub const REGION: &str = "eu-central-1";

/// The running store. Dropping it stops it; the objects stay.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    accepting: JoinHandle<()>,
}

impl S3 {
    /// Serves the objects below `root`, on a free port.
    ///
    /// # Errors
    /// When the folder cannot be made or no port is free.
    pub async fn start(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root.join(BUCKET))?;
        let files = FileSystem::new(root).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let mut service = S3ServiceBuilder::new(etags::WithEtags(files));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("S3 cannot listen")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that is killed breaks its connection: nothing to say about it.
                    let _ = Builder::new().serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Ok(Self { endpoint, accepting })
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
