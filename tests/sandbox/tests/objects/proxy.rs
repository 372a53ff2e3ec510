//! Every HTTPS request goes through the proxy that the environment names, and trusts the authorities it names. The hosts
//! have names that only the proxy knows, and certificates of an authority of our own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ingester::Api;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use shared::clock::Clock;
use shared::object_store::ObjectStore;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::config_at;
use crate::store::Memory;

/// A proxy that is every host behind it: it answers CONNECT, speaks TLS as the host that was asked for, and passes on what
/// comes to a store, or what is for STS to a stand-in of that.
struct Proxy {
    address: SocketAddr,
    authority: String,
    /// What was asked of it: the host, and by whom.
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Proxy {
    async fn start(store: SocketAddr, sts: SocketAddr) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names = ["s3", "sts", "livestream", "redshift"].map(|host| format!("{host}.example.test"));
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names.to_vec()).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let tls = TlsAcceptor::from(Arc::new(tls));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (tls, noted) = (tls.clone(), noted.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(socket.read_u8().await.ok()?);
                    }
                    let head = String::from_utf8(head).ok()?;
                    let host = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
                    let header = |line: &str| {
                        let (name, value) = line.split_once(": ")?;
                        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
                    };
                    let who = head.lines().find_map(header).unwrap_or_default();
                    let behind = if host.starts_with("sts.") { sts } else { store };
                    noted.lock().unwrap().push((host, who));
                    socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                    let mut inside = tls.accept(socket).await.ok()?;
                    let mut behind = TcpStream::connect(behind).await.ok()?;
                    copy_bidirectional(&mut inside, &mut behind).await.ok()
                });
            }
        });
        Self { address, authority: issuer.pem(), asked }
    }

    /// The hosts asked for since the last call, each once.
    fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<_> = self.take().into_iter().map(|(host, _)| host).collect();
        hosts.dedup();
        hosts
    }

    fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// STS that gives out one role. What it was asked is kept.
async fn sts() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let answer = move |request: Request<Incoming>| {
        let noted = noted.clone();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            noted.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
            let xml = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
                 <AssumedRoleUser><AssumedRoleId>A:s</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser>\
                 <Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>of-the-role</SecretAccessKey>\
                 <SessionToken>session-of-the-role</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>\
                 </AssumeRoleResult></AssumeRoleResponse>";
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(xml.as_bytes()))))
        }
    };
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(
                http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer.clone())),
            );
        }
    });
    (address, asked)
}

const S3: &str = "https://s3.example.test";
const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn every_https_request_goes_through_the_proxy_and_trusts_what_the_environment_names() {
    shared::tls::install();
    let (dir, store, (sts, assumed)) = (TempDir::new().unwrap(), Memory::start().await, sts().await);
    let address = store.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = Proxy::start(address, sts).await;
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &proxy.authority).unwrap();
    let through = format!("http://user:hunter2@{}", proxy.address);
    let env = [("HTTPS_PROXY", through.as_str()), ("SSL_CERT_FILE", ca.to_str().unwrap())];

    let configured = config_at(&dir, S3, "", &env);
    let objects = ObjectStore::connect(&configured.s3).await;
    objects.put("ToIngest/k", Bytes::from_static(b"x")).await.unwrap();
    objects.copy("ToIngest/k", "Ingested/k").await.unwrap();
    assert_eq!(objects.get("Ingested/k").await.unwrap(), "x");
    assert_eq!(objects.list("ToIngest/", None).await.unwrap().len(), 1);
    // user:hunter2, in the one form that a proxy takes.
    let asked = proxy.take();
    assert!(!asked.is_empty(), "nothing came to the proxy");
    let expected = ("s3.example.test:443".to_owned(), "Basic dXNlcjpodW50ZXIy".to_owned());
    assert!(asked.iter().all(|one| *one == expected), "{asked:?}");

    // Adobe.
    let http = producer::client(&configured.adobe).unwrap();
    let answer = http.get("https://livestream.example.test/livestream/k").send().await.unwrap();
    assert_eq!(answer.status(), 404, "of the store behind");
    assert_eq!(proxy.hosts(), ["livestream.example.test:443"]);
    // What gives out passwords for Redshift.
    let endpoint = "https://redshift.example.test/".to_owned();
    let api = Api::connect(&configured.s3, "redshift", "eu-central-1".to_owned(), endpoint).await;
    assert_eq!(api.post(&[], String::new(), LONG).await.unwrap().status, 501, "of the store behind");
    assert_eq!(proxy.hosts(), ["redshift.example.test:443"]);
    // The role, and S3 as this role.
    let role = "role_arn = \"arn:aws:iam::123456789012:role/r\"\nexternal_id = \"e-1\"\n\
                sts_endpoint = \"https://sts.example.test\"";
    let as_role = config_at(&dir, S3, role, &env);
    store.heads();
    ObjectStore::connect(&as_role.s3).await.list("p/", None).await.unwrap();
    assert_eq!(proxy.hosts(), ["sts.example.test:443", "s3.example.test:443"]);
    let assumed = assumed.lock().unwrap().join("\n");
    assert!(assumed.contains("role%2Fr") && assumed.contains("ExternalId=e-1"), "{assumed}");
    let head = &store.heads()[0];
    let header = |name: &str| head.headers[name].to_str().unwrap().to_owned();
    assert!(header("authorization").contains("Credential=ASIAROLE/"), "{head:?}");
    assert_eq!(header("x-amz-security-token"), "session-of-the-role");

    let mut said = Vec::new();
    producer::check(&configured, &Clock::system(), &mut said).await.unwrap_err();
    let said = String::from_utf8(said).unwrap();
    let line = said.lines().find(|line| line.contains("network")).unwrap();
    assert!(
        line.contains(&format!("S3 (s3.example.test) through http://{} (HTTPS_PROXY)", proxy.address)),
        "{line}"
    );
    assert!(
        line.contains("Livestream (127.0.0.1) directly, not through") && line.contains("SSL_CERT_FILE"),
        "{line}"
    );
    assert!(!said.contains("hunter2") && !format!("{configured:?}").contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_no_proxy_and_this_machine_are_reached_directly() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let address = store.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = Proxy::start(address, address).await;
    let through = format!("http://{}", proxy.address);
    let env =
        [("HTTPS_PROXY", through.as_str()), ("ALL_PROXY", through.as_str()), ("NO_PROXY", "example.test")];
    let away = ObjectStore::connect(&config_at(&dir, S3, "", &env).s3).await;
    assert!(tokio::time::timeout(LONG, away.list("p/", None)).await.is_ok_and(|listed| listed.is_err()));
    let here = ObjectStore::connect(&config_at(&dir, store.endpoint(), "", &env).s3).await;
    here.put("p/k", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(proxy.take(), []);
    // Without the exception the first comes to the proxy; its authority is none of the system's.
    let away = ObjectStore::connect(&config_at(&dir, S3, "", &env[..1]).s3).await;
    away.list("p/", None).await.unwrap_err();
    assert!(!proxy.take().is_empty());
}
