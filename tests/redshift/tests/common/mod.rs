//! A stand-in, an S3 beside it, and clients.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use redshift::{Options, Redshift};
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

pub struct World {
    pub redshift: Redshift,
    pub files: tempfile::TempDir,
    _data: tempfile::TempDir,
}

pub const REGION: &str = "eu-central-1";
pub const HOW: &str = "IAM_ROLE 'arn:aws:iam::123456789012:role/load' REGION 'eu-central-1' FORMAT CSV DELIMITER '~' QUOTE '\"' EMPTYASNULL";

pub async fn start() -> World {
    let files = tempfile::tempdir().unwrap();
    std::fs::create_dir(files.path().join("bucket")).unwrap();
    let endpoint = serve_s3(files.path().to_owned()).await;
    let data = tempfile::tempdir().unwrap();
    let redshift = Redshift::start(options(data.path().join("cluster"), endpoint)).await.unwrap();
    World { redshift, files, _data: data }
}

pub fn options(data_dir: PathBuf, s3_endpoint: String) -> Options {
    Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir,
        s3_endpoint,
        s3_region: REGION.to_owned(),
        s3_access_key: "AKIAEXAMPLE".to_owned(),
        s3_secret_key: "secret".to_owned(),
        user: "loader".to_owned(),
        password: "open sesame".to_owned(),
        database: "dev".to_owned(),
    }
}

async fn serve_s3(root: PathBuf) -> String {
    let mut service = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    service.set_auth(s3s::auth::SimpleAuth::from_single("AKIAEXAMPLE", "secret"));
    let service = service.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let server = hyper::server::conn::http1::Builder::new();
        while let Ok((socket, _)) = listener.accept().await {
            let connection = server.serve_connection(TokioIo::new(socket), service.clone());
            tokio::spawn(connection);
        }
    });
    endpoint
}

/// A client and the notices it has received.
pub struct Session {
    pub client: Client,
    pub notices: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.redshift.addr().port());
        config.user("loader").password("open sesame").dbname("dev");
        config
    }

    pub async fn session(&self) -> Session {
        let (client, mut connection) = self.config().connect(NoTls).await.unwrap();
        let notices = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&notices);
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message {
                    log.lock().unwrap().push(format!("{}: {}", notice.severity(), notice.message()));
                }
            }
        });
        Session { client, notices }
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.files.path().join("bucket").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn put_manifest(&self, key: &str, entries: &[(&str, bool)]) {
        let entries: Vec<String> = entries
            .iter()
            .map(|(key, mandatory)| format!(r#"{{"url":"s3://bucket/{key}","mandatory":{mandatory}}}"#))
            .collect();
        self.put(key, format!(r#"{{"entries":[{}]}}"#, entries.join(",")).as_bytes());
    }
}

impl Session {
    /// Executes it, and fails the test if that fails.
    pub async fn ok(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let mut rows = Vec::new();
        for message in self.client.simple_query(sql).await? {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    }

    /// The one value of a result.
    pub async fn one(&self, sql: &str) -> String {
        self.ok(sql).await[0][0].clone().unwrap_or_else(|| "NULL".to_owned())
    }

    /// SQLSTATE, message and detail of the error it must answer with.
    pub async fn error(&self, sql: &str) -> (String, String, String) {
        let error = self.query(sql).await.map(|_| ()).expect_err(sql);
        let db = error.as_db_error().unwrap_or_else(|| panic!("{sql}: no answer but {error:?}"));
        (db.code().code().to_owned(), db.message().to_owned(), db.detail().unwrap_or_default().to_owned())
    }

    /// The error's message; its SQLSTATE must be Redshift's favourite.
    pub async fn internal(&self, sql: &str) -> String {
        let (state, message, _) = self.error(sql).await;
        assert_eq!(state, "XX000", "{sql}: {message}");
        message
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}
