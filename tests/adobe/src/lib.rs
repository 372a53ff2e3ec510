//! A stand-in for Adobe IMS and Adobe Analytics Livestream: it speaks the real protocols, streams records that are
//! a pure function of a plan, and says afterwards what was sent. Whatever it does not support it refuses loudly.
//!
//! ```text
//!  client ──form──► IMS ─────────── token ─┐
//!         ──GET───► front  127.0.0.1:a ◄───┤ 302
//!         ──GET───► stream localhost:b ◄───┘ gzip, endless   ◄── Generator(plan, index)
//! ```

mod faults;
mod http;
mod ims;
mod livestream;
mod records;
mod service_account;
mod tokens;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::JoinHandle;

pub use faults::{Door, Fault, Faults};
pub use livestream::delivery::{Delivery, PARTITIONS};
pub use records::{Counts, Generator, Kind, Plan};
pub use service_account::{METASCOPE, ORGANIZATION, PRIVATE_KEY, TECHNICAL_ACCOUNT};

use livestream::{
    admission::Account,
    doors::{REDIRECT_HOST, Shared},
    group::Group,
};

/// What the kernel may hold of a connection, so that "sent" is close to "received".
const SEND_BUFFER: u32 = 256 * 1024;

/// How the stand-in behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is streamed.
    pub plan: Plan,
    /// The only client IMS knows; also the `x-api-key` of Livestream.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The name of the stream.
    pub endpoint: String,
    /// Hits per second, by the clock from the first connection on, whether anybody reads or not. `None`: as fast as
    /// the client reads.
    pub rate: Option<u64>,
    /// With a rate, how many hits have happened before the first connection.
    pub backlog: u64,
    /// How many indexes below the head are held for those who reconnect.
    pub hold: u64,
    /// Hits per second that one connection is sent at most, however fast it reads.
    pub connection_rate: Option<u64>,
    /// While every place is taken, the connection that joined last is cut after this long.
    pub flapping: Option<Duration>,
    /// In what order hits reach the connections, and how often.
    pub delivery: Delivery,
    /// Where IMS listens.
    pub ims_listen: SocketAddr,
    /// Where the front listens.
    pub front_listen: SocketAddr,
    /// Where the streaming host listens; clients reach it as `localhost`.
    pub stream_listen: SocketAddr,
    /// How long a token lives.
    pub token_ttl: Duration,
}

impl Default for Options {
    /// Full speed, free ports on loopback, tokens that live as long as the real ones.
    fn default() -> Self {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            plan: Plan::default(),
            client_id: "client-id".into(),
            client_secret: "client-secret".into(),
            endpoint: "example-stream".into(),
            rate: None,
            backlog: 0,
            hold: 50_000,
            connection_rate: None,
            flapping: None,
            delivery: Delivery::default(),
            ims_listen: anywhere,
            front_listen: anywhere,
            stream_listen: anywhere,
            token_ttl: Duration::from_secs(86_399),
        }
    }
}

/// The running stand-in. Dropping it stops it.
pub struct Adobe {
    shared: Shared,
    token_requests: Arc<AtomicU64>,
    ims: SocketAddr,
    front: SocketAddr,
    stream: SocketAddr,
    servers: [JoinHandle<()>; 3],
}

impl Adobe {
    /// Listens and serves on the tokio runtime this is called in.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        tokio::runtime::Handle::try_current().context("the stand-in for Adobe needs a tokio runtime")?;
        let ims_listener = http::listen(options.ims_listen, None).context("IMS cannot listen")?;
        let front_listener = http::listen(options.front_listen, None).context("the front cannot listen")?;
        let stream_listener =
            http::listen(options.stream_listen, Some(SEND_BUFFER)).context("the stream cannot listen")?;
        let (ims, front, stream) =
            (ims_listener.local_addr()?, front_listener.local_addr()?, stream_listener.local_addr()?);

        let tokens = tokens::Tokens::new(options.token_ttl);
        let faults = Faults::default();
        let token_requests = Arc::<AtomicU64>::default();
        let token_server = Arc::new(ims::Ims {
            client_id: options.client_id.clone(),
            client_secret: options.client_secret,
            account: service_account::ServiceAccount::new().context("the service account's key")?,
            tokens: tokens.clone(),
            faults: faults.clone(),
            requests: Arc::clone(&token_requests),
        });
        let mut group = Group::new(options.plan.hits, options.rate, options.hold).after(options.backlog);
        group.deliver(options.delivery.in_hits(&options.plan));
        let shared = Shared {
            account: Account { client_id: options.client_id, endpoint: options.endpoint, tokens },
            faults,
            generator: Generator::new(options.plan),
            group: Arc::new(Mutex::new(group)),
            lines: Arc::default(),
            bytes: Arc::default(),
            connection_rate: options.connection_rate,
            flapping: options.flapping,
            redirect_to: Arc::new(Mutex::new(format!("http://{REDIRECT_HOST}:{}", stream.port()))),
        };
        let (at_front, at_stream) = (shared.clone(), shared.clone());
        let servers = [
            http::serve(ims_listener, move |request| {
                let server = Arc::clone(&token_server);
                async move { server.handle(request).await }
            }),
            http::serve(front_listener, move |request| std::future::ready(at_front.front(&request))),
            http::serve(stream_listener, move |request| std::future::ready(at_stream.stream(&request))),
        ];
        Ok(Self { shared, token_requests, ims, front, stream, servers })
    }

    /// The OAuth server-to-server token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("http://{}/ims/token/v3", self.ims)
    }

    /// The token endpoint of the legacy JWT flow.
    #[must_use]
    pub fn jwt_url(&self) -> String {
        format!("http://{}/ims/exchange/jwt", self.ims)
    }

    /// The stream, at the front that redirects.
    #[must_use]
    pub fn stream_url(&self) -> String {
        format!("http://{}/api/1/stream/{}", self.front, self.shared.account.endpoint)
    }

    /// The host name the front redirects to.
    #[must_use]
    pub fn redirect_host(&self) -> &'static str {
        REDIRECT_HOST
    }

    /// Where IMS, the front and the streaming host listen.
    #[must_use]
    pub fn addresses(&self) -> [SocketAddr; 3] {
        [self.ims, self.front, self.stream]
    }

    /// From now on the front redirects to another port of the streaming host, which leads to the same.
    pub fn redirect_to(&self, origin: &str) {
        *self.shared.redirect_to.lock().unwrap_or_else(PoisonError::into_inner) = origin.to_owned();
    }

    /// The oracle of what is sent.
    #[must_use]
    pub fn generator(&self) -> Generator {
        self.shared.generator
    }

    /// The script of faults.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// From now on, hits reach all connections in this order.
    pub fn deliver(&self, delivery: Delivery) {
        self.group().deliver(delivery.in_hits(self.shared.generator.plan()));
    }

    /// No more hits happen than until now. Says how many did.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.group().end_now(Instant::now())
    }

    /// The partition that brings a hit.
    #[must_use]
    pub fn partition(&self, index: u64) -> usize {
        livestream::delivery::partition(&self.shared.generator, index)
    }

    /// The head: the first index never sent, or with a rate not yet happened.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.group().head(Instant::now())
    }

    /// How many distinct hits were written to some connection. Less than [`Adobe::sent`] if hits expired unread or
    /// were jumped over with `reset=largest`.
    #[must_use]
    pub fn distinct_sent(&self) -> u64 {
        self.group().distinct_sent()
    }

    /// Whether this hit was written to some connection.
    #[must_use]
    pub fn was_sent(&self, index: u64) -> bool {
        self.group().was_sent(index)
    }

    /// The indexes nobody was ever sent, because a script wanted a gap there.
    #[must_use]
    pub fn lapses(&self) -> Vec<std::ops::Range<u64>> {
        self.group().lapses()
    }

    /// What was written, by kind, replays after a reconnect included; without the lines that keep a connection open
    /// and those of faults.
    #[must_use]
    pub fn counts_sent(&self) -> Counts {
        self.group().counts()
    }

    /// Every line written, of whatever kind.
    #[must_use]
    pub fn lines_sent(&self) -> u64 {
        self.shared.lines.load(Ordering::Relaxed)
    }

    /// Compressed bytes of all bodies.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Requests IMS received, refused ones too.
    #[must_use]
    pub fn token_requests(&self) -> u64 {
        self.token_requests.load(Ordering::Relaxed)
    }

    /// Live connections to the stream.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.group().connections()
    }

    /// Every token that IMS gave out so far.
    #[must_use]
    pub fn tokens_given(&self) -> Vec<String> {
        self.shared.account.tokens.given()
    }

    /// Makes every token dead from now on; connections that stand go on.
    pub fn revoke_tokens(&self) {
        self.shared.account.tokens.revoke_all();
    }

    /// Closes every connection and stops listening.
    pub fn stop(&self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.shared.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Adobe {
    fn drop(&mut self) {
        self.stop();
    }
}
