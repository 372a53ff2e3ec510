//! The token endpoints, over the wire.

#![allow(clippy::unwrap_used)]

mod common;

use adobe::{Door, Fault, Options};
use common::{Stage, get, post};

const CLIENT: &str = "client_id=client-id&client_secret=client-secret";

fn answer(url: &str, form: &str) -> (u16, serde_json::Value) {
    let answer = post(url, form);
    (answer.status, serde_json::from_str(&answer.body()).unwrap())
}

#[test]
fn the_oauth_flow_says_seconds() {
    let stage = Stage::new(Options::default());
    let form = format!("{CLIENT}&grant_type=client_credentials&scope=openid%2CAdobeID");
    let (status, body) = answer(&stage.adobe.token_url(), &form);
    assert_eq!((status, &body["token_type"], &body["expires_in"]), (200, &"bearer".into(), &86_399.into()));
    assert_eq!(stage.adobe.token_requests(), 1);
}

#[test]
fn a_wrong_client_secret_scope_or_token_is_refused_with_its_error_code() {
    let stage = Stage::new(Options::default());
    let oauth = stage.adobe.token_url();
    let refused = |url: &str, form: &str| {
        let (status, body) = answer(url, form);
        assert!(!body["error_description"].as_str().unwrap().is_empty());
        (status, body["error"].as_str().unwrap().to_owned())
    };
    let grant = "grant_type=client_credentials&scope=openid";
    let wrong = |client: &str| refused(&oauth, &format!("{grant}&{client}"));
    assert_eq!(wrong("client_id=x&client_secret=client-secret"), (400, "invalid_client".into()));
    assert_eq!(wrong("client_id=client-id&client_secret=x"), (401, "invalid_client".into()));
    assert_eq!(wrong(""), (400, "invalid_client".into()));
    let no_scope = format!("{CLIENT}&grant_type=client_credentials");
    assert_eq!(refused(&oauth, &no_scope), (400, "invalid_scope".into()));
    let jwt = stage.adobe.jwt_url();
    assert_eq!(refused(&jwt, CLIENT), (400, "bad_request".into()));
    assert_eq!(refused(&jwt, &format!("{CLIENT}&jwt_token=a.b.c")), (400, "invalid_token".into()));
    assert_eq!(get(&oauth, &[]).status, 405);
    assert_eq!(get(&oauth.replace("v3", "v2"), &[]).status, 404);
    stage.adobe.faults().push(Fault::Refuse { door: Door::Ims, status: 429, body: None });
    assert_eq!(post(&oauth, CLIENT).status, 429);
}
