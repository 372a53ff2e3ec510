//! Tokens: both flows, what is asked for and when, what IMS says when it refuses.

use std::time::Duration;

use adobe::{Adobe, METASCOPE, ORGANIZATION, Options, PRIVATE_KEY, TECHNICAL_ACCOUNT};
use producer::{NoToken, TokenError, Tokens};
use shared::clock::Clock;
use shared::config::Config;
use shared::shutdown::Shutdown;

use crate::server::{Answer, Server, answer};
use crate::{CREDENTIAL, at, by_hand, config, http, tokens};

fn adobe() -> Adobe {
    Adobe::start(Options::default()).unwrap()
}

fn service_account(adobe: &Adobe, more: &str) -> Config {
    let (token, stream) = (adobe.jwt_url(), adobe.stream_url());
    config(&format!(
        "{CREDENTIAL}auth = \"jwt\"\ntoken_url = \"{token}\"\nstream_url = \"{stream}\"\n\
         jwt_organization = \"{ORGANIZATION}\"\njwt_technical_account = \"{TECHNICAL_ACCOUNT}\"\n\
         jwt_key = '''\n{PRIVATE_KEY}'''\n{more}"
    ))
}

/// A configuration for IMS at this address, in either flow.
fn ims(url: &str, auth: &str) -> Config {
    config(&format!(
        "{CREDENTIAL}auth = \"{auth}\"\ntoken_url = \"{url}\"\nstream_url = \"{url}\"\nconnect_timeout = \"300ms\"\n\
         jwt_organization = \"{ORGANIZATION}\"\njwt_technical_account = \"{TECHNICAL_ACCOUNT}\"\n\
         jwt_key = '''\n{PRIVATE_KEY}'''\n"
    ))
}

fn granted(token: &str, expires_in: u64) -> Answer {
    answer(200, "", &format!("{{\"access_token\":\"{token}\",\"expires_in\":{expires_in}}}"))
}

async fn value(tokens: &Tokens) -> String {
    tokens.get().await.unwrap().value().reveal().to_owned()
}

#[tokio::test]
async fn a_service_account_gets_a_token_for_claims_ims_can_verify() {
    let adobe = adobe();
    assert!(value(&tokens(&service_account(&adobe, ""), &Clock::system())).await.starts_with("eyJ"));
    let wrong = service_account(&adobe, "jwt_metascopes = [\"ent_other_sdk\"]");
    let error = tokens(&wrong, &Clock::system()).get().await.unwrap_err().to_string();
    assert!(error.contains("invalid_scope") && error.contains("adobe.jwt_metascopes"), "{error}");
    assert_eq!(METASCOPE, "ent_analytics_bulk_ingest_sdk", "the default");
    let mut wrong = service_account(&adobe, "");
    wrong.adobe.jwt_organization = "other@AdobeOrg".to_owned();
    let error = tokens(&wrong, &Clock::system()).get().await.unwrap_err().to_string();
    assert!(error.contains("right organization"), "{error}");
}

#[tokio::test]
async fn expires_in_is_seconds_with_oauth_and_milliseconds_with_a_service_account() {
    // 3000: fifty minutes, or three seconds, after which the token is due.
    for (auth, requests) in [("oauth", 1), ("jwt", 2)] {
        let server = Server::start([granted("one", 3_000), granted("two", 86_399_000)]).await;
        let clock = by_hand();
        let tokens = tokens(&ims(&server.url, auth), &clock);
        assert_eq!(value(&tokens).await, "one");
        clock.advance(Duration::from_millis(2_900));
        value(&tokens).await;
        assert_eq!(server.asked().len(), requests, "{auth}");
    }
}

#[tokio::test]
async fn connections_that_want_a_token_together_make_one_request() {
    let (adobe, clock) = (adobe(), by_hand());
    let tokens = tokens(&at(&adobe, ""), &clock);
    let all = futures_util::future::join_all((0..8).map(|_| value(&tokens))).await;
    assert!(all.iter().all(|token| *token == all[0]));
    assert_eq!(adobe.token_requests(), 1);
}

#[tokio::test]
async fn a_401_costs_one_request_however_many_connections_meet_it() {
    let (adobe, clock) = (adobe(), by_hand());
    let tokens = tokens(&at(&adobe, ""), &clock);
    let old = tokens.get().await.unwrap();
    tokens.accepted(&old).await;
    let refused = (0..8).map(|_| async {
        tokens.refused(&old).await;
        value(&tokens).await
    });
    let all = futures_util::future::join_all(refused).await;
    assert!(all.iter().all(|token| token != old.value().reveal() && *token == all[0]));
    assert_eq!(adobe.token_requests(), 2, "one before, one for all");
}

#[tokio::test]
async fn a_new_token_that_is_refused_too_is_a_matter_for_a_person_and_waits_grow() {
    let (adobe, clock) = (adobe(), by_hand());
    let tokens = tokens(&at(&adobe, ""), &clock);
    tokens.refused(&tokens.get().await.unwrap()).await;
    tokens.refused(&tokens.get().await.unwrap()).await;
    let NoToken { error, wait } = tokens.get().await.unwrap_err();
    assert!(
        matches!(error, TokenError::NotAccepted) && error.to_string().contains("product profile"),
        "{error}"
    );
    assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&wait), "{wait:?}");
    assert_eq!(adobe.token_requests(), 2, "nobody asks meanwhile");
    clock.advance(wait);
    tokens.refused(&tokens.get().await.unwrap()).await;
    let longer = tokens.get().await.unwrap_err().wait;
    assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&longer), "{longer:?}");
    clock.advance(longer);
    let good = tokens.get().await.unwrap();
    tokens.accepted(&good).await;
    tokens.refused(&good).await;
    tokens.get().await.unwrap();
    assert_eq!(adobe.token_requests(), 5, "once taken, the next is asked for at once");
}

#[tokio::test]
async fn an_ims_that_fails_is_left_alone_for_a_while_by_all() {
    let server = Server::start([answer(500, "", "oops"), granted("one", 86_399)]).await;
    let clock = by_hand();
    let tokens = tokens(&ims(&server.url, "oauth"), &clock);
    let failed = futures_util::future::join_all((0..8).map(|_| tokens.get())).await;
    assert!(failed.iter().all(Result::is_err));
    assert_eq!(server.asked().len(), 1);
    let wait = failed.into_iter().map(|failed| failed.unwrap_err().wait).max().unwrap();
    assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&wait), "{wait:?}");
    clock.advance(wait);
    assert_eq!(value(&tokens).await, "one");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_a_failed_renewal_does_not_lose_the_old_one() {
    let server = Server::start([granted("one", 3), answer(500, "", ""), granted("two", 86_399)]).await;
    let clock = by_hand();
    let tokens = tokens(&ims(&server.url, "oauth"), &clock);
    let shutdown = Shutdown::new();
    let fresh = tokio::spawn({
        let (tokens, shutdown) = (tokens.clone(), shutdown.clone());
        async move { tokens.keep_fresh(&shutdown).await }
    });
    assert_eq!(value(&tokens).await, "one");
    clock.advance(Duration::from_millis(2_699));
    Clock::system().sleep(Duration::from_millis(20)).await;
    assert_eq!(server.asked().len(), 1, "not before a tenth of its life is left");
    clock.advance(Duration::from_millis(1));
    server.asked_times(2).await;
    assert_eq!(value(&tokens).await, "one", "renewing failed, but it is still good");
    assert_eq!(server.asked().len(), 2);
    clock.advance(Duration::from_secs(1));
    server.asked_times(3).await;
    assert_eq!(value(&tokens).await, "two", "nobody had to ask for it");
    assert_eq!(server.asked().len(), 3);
    shutdown.stop();
    tokio::time::timeout(Duration::from_secs(1), fresh).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_token_that_hardly_lives_makes_no_storm() {
    let server = Server::start([granted("one", 0)]).await;
    let clock = by_hand();
    let tokens = tokens(&ims(&server.url, "oauth"), &clock);
    let shutdown = Shutdown::new();
    let fresh = tokio::spawn({
        let (tokens, shutdown) = (tokens.clone(), shutdown.clone());
        async move { tokens.keep_fresh(&shutdown).await }
    });
    assert_eq!(value(&tokens).await, "one");
    clock.advance(Duration::from_secs(3_600));
    Clock::system().sleep(Duration::from_millis(50)).await;
    assert_eq!(server.asked().len(), 1);
    shutdown.stop();
    fresh.await.unwrap();
}

#[tokio::test]
async fn the_next_start_and_the_next_producer_take_the_token_from_the_file() {
    let adobe = adobe();
    let config = at(&adobe, "");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token.json");
    let producer = || Tokens::new(http(&config), &config.adobe, Some(file.clone()), Clock::system()).unwrap();
    // Six processes that start at once: each has a state of its own, and they share the file only.
    let six: Vec<_> = (0..6).map(|_| producer()).collect();
    let all = futures_util::future::join_all(six.iter().map(value)).await;
    assert!(all.iter().all(|token| *token == all[0]));
    assert_eq!(adobe.token_requests(), 1);

    // Refused, it is not taken from the file again; and the others find the new one there.
    for tokens in &six {
        tokens.refused(&tokens.get().await.unwrap()).await;
    }
    let all = futures_util::future::join_all(six.iter().map(value)).await;
    assert!(all.iter().all(|token| *token == all[0]));
    assert_eq!(adobe.token_requests(), 2);

    let mut other = config.clone();
    other.adobe.scopes = vec!["openid".to_owned()];
    let other = Tokens::new(http(&other), &other.adobe, Some(file.clone()), Clock::system()).unwrap();
    assert_ne!(value(&other).await, all[0], "another credential's token is not used");
    assert_eq!(adobe.token_requests(), 3);
}

/// What a person is told when IMS answers like this.
async fn told(auth: &str, answer: Answer) -> NoToken {
    let server = Server::start([answer]).await;
    tokens(&ims(&server.url, auth), &by_hand()).get().await.unwrap_err()
}

async fn refused(auth: &str, status: u16, code: &str, description: &str) -> String {
    let body = format!("{{\"error\":\"{code}\",\"error_description\":\"{description}\"}}");
    let none = told(auth, answer(status, "", &body)).await;
    assert!(matches!(none.error, TokenError::Refused { .. }), "{none}");
    let said = none.to_string();
    assert!(said.contains(code) && said.contains(description), "{said}");
    said
}

macro_rules! refusals {
    ($($name:ident: $auth:literal, $status:literal, $code:literal, $description:literal => $($advice:literal),+;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let said = refused($auth, $status, $code, $description).await;
            $(assert!(said.contains($advice), "{said}");)+
        })*
    };
}

refusals! {
    an_unknown_client_id_is_explained: "oauth", 400, "invalid_client", "invalid client_id parameter"
        => "adobe.client_id and adobe.client_secret", "Developer Console";
    a_wrong_client_secret_is_explained: "oauth", 401, "invalid_client", "invalid client_secret parameter"
        => "adobe.client_secret", "Retrieve client secret";
    wrong_scopes_are_explained: "oauth", 400, "invalid_scope", "scope is invalid" => "adobe.scopes", "card";
    a_wrong_metascope_is_explained: "jwt", 400, "invalid_scope",
        "The metascopes in the JWT are not a subset of the metascopes in the binding." => "adobe.jwt_metascopes";
    an_unknown_certificate_is_explained: "jwt", 400, "invalid_token",
        "Could not match JWT signature to any of the bindings" => "Upload the certificate", "expired";
    a_token_ims_cannot_read_is_explained: "jwt", 400, "invalid_token", "the JWT has expired"
        => "adobe.jwt_technical_account", "clock";
    a_wrong_signature_is_explained: "jwt", 400, "invalid_signature", "bad signature" => "Upload the certificate";
    a_bad_request_is_explained: "jwt", 400, "bad_request", "jwt_token is missing" => "adobe.token_url", "adobe.auth";
    an_unauthorized_client_is_explained: "oauth", 400, "unauthorized_client", "not allowed"
        => "OAuth Server-to-Server";
    a_retired_service_account_is_explained: "jwt", 400, "unauthorized_client", "not allowed"
        => "migrate", "adobe.auth = \"oauth\"";
    a_wrong_grant_type_is_explained: "oauth", 400, "unsupported_grant_type", "grant_type is not supported"
        => "OAuth Server-to-Server";
    a_wrong_organization_is_explained: "jwt", 400, "invalid_client",
        "the organization associated with this client is invalid" => "right organization";
    a_technical_account_that_is_gone_is_explained: "jwt", 400, "invalid_client",
        "the user associated with this client is invalid" => "technical account", "product profile";
    a_code_nobody_knows_is_shown_with_general_advice: "oauth", 418, "teapot", "short and stout"
        => "Check the credential";
}

#[tokio::test]
async fn a_wrong_path_and_a_web_page_are_explained() {
    let none = told("oauth", answer(404, "", "")).await;
    assert!(none.to_string().contains("Check adobe.token_url"), "{none}");
    let page = "<!DOCTYPE html><html><body>Access denied: secret inside</body></html>";
    let none = told("oauth", answer(403, "Content-Type: text/html\r\n", page)).await;
    assert!(none.to_string().contains("a web page, not Adobe IMS"), "{none}");
    assert!(!none.to_string().contains("inside"), "{none}");
    let none = told("oauth", answer(200, "", page)).await;
    assert!(matches!(none.error, TokenError::Unavailable { .. }));
    assert!(none.to_string().contains("a web page, not a token"), "{none}");
    let none = told("oauth", answer(502, "Content-Type: text/html\r\n", page)).await;
    assert!(none.to_string().contains("502 Bad Gateway with a web page"), "{none}");
}

#[tokio::test]
async fn an_answer_that_is_no_token_is_not_shown() {
    let none =
        told("oauth", answer(200, "", "{\"access_token\":\"hunter2\",\"expires_in\":\"hunter2\"}")).await;
    assert!(none.to_string().contains("its answer is not a token (line 1"), "{none}");
    assert!(!format!("{none} {none:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_busy_ims_is_waited_for_as_it_asks() {
    let none = told("oauth", answer(429, "Retry-After: 90\r\n", "{\"error\":\"too_many\"}")).await;
    assert!(matches!(none.error, TokenError::Unavailable { .. }), "{none}");
    assert_eq!(none.wait, Duration::from_secs(90));
    let none = told("oauth", answer(429, "Retry-After: 864000\r\n", "")).await;
    assert_eq!(none.wait, Duration::from_secs(3_600), "not for days");
    let none = told("oauth", answer(429, "", "")).await;
    assert!(none.wait <= Duration::from_secs(1), "{none:?}");
}

#[tokio::test]
async fn an_ims_that_is_silent_or_away_is_told_of_and_given_up() {
    let started = Clock::system().steady();
    let none = told("oauth", Answer::SayAndHold(Vec::new())).await;
    assert!(none.to_string().contains("no answer within 300ms"), "{none}");
    assert!(started.until(Clock::system().steady()) < Duration::from_secs(5));
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let none = tokens(&ims(&format!("http://{gone}"), "oauth"), &by_hand()).get().await.unwrap_err();
    assert!(none.to_string().contains("refused"), "{none}");
}

#[tokio::test]
async fn a_secret_ims_repeats_is_not_shown() {
    let none =
        told("oauth", answer(400, "", "{\"error\":\"x\",\"error_description\":\"you sent client-secret\"}"))
            .await;
    assert!(!none.to_string().contains("client-secret"), "{none}");
    assert!(none.to_string().contains("you sent ***"), "{none}");
}
