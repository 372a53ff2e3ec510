//! A store for tests that answers as it is told, whatever it is asked for.

use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::config::{Config, S3, Secrets};
use crate::object_store::store::ObjectStore;
use crate::secret::Secret;

/// A client of a store whose connections are each served so; with each comes its number, from 0.
pub(super) async fn store<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> ObjectStore
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, number));
            number += 1;
        }
    });
    let text = include_str!("../../../deploy/pipeline.example.toml");
    let config = Config::parse(text, Path::new("p"), std::iter::empty(), Secrets::Ingester).unwrap();
    let (access_key_id, secret_access_key) = ("id".to_owned(), Secret::new("secret"));
    ObjectStore::connect(&S3 { endpoint, path_style: true, access_key_id, secret_access_key, ..config.s3 })
        .await
}

/// Reads a request without a body to its end.
pub(super) async fn read_request(socket: &mut TcpStream) {
    let mut request = [0; 8192];
    while let Ok(read @ 1..) = socket.read(&mut request).await
        && !request[..read].ends_with(b"\r\n\r\n")
    {}
}
