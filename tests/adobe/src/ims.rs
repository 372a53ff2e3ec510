//! Adobe IMS: the token endpoints of both flows, with the error bodies IMS gives.
//!
//! Source: the authentication guide of AdobeDocs/adobe-dev-console; error bodies from its issue 54; milliseconds in
//! the JWT flow from the code of clients that divide by 1000. `expires_in` of the OAuth flow is in seconds.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};

use crate::{
    faults::{Door, Fault, Faults},
    http::{form, json, refusal, scripted},
    livestream::admission::Refusal,
    service_account::{Denial, ServiceAccount},
    tokens::Tokens,
};

type Answer = Response<Either<Full<Bytes>, Full<Bytes>>>;

/// A form larger than this is not a token request.
const MAX_FORM: usize = 64 * 1024;

/// The scopes of the credential.
const SCOPES: [&str; 5] =
    ["openid", "session", "AdobeID", "read_organizations", "additional_info.projectedProductContext"];

/// The token server.
pub(crate) struct Ims {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) account: ServiceAccount,
    pub(crate) tokens: Tokens,
    pub(crate) faults: Faults,
    pub(crate) requests: Arc<AtomicU64>,
}

/// The fields of a token request; a missing one is empty.
struct Form(Vec<(String, String)>);

impl Form {
    fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }
}

impl Ims {
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(Fault::Refuse { status, body, .. }) = self.faults.take_at(Door::Ims) {
            return scripted(status, body);
        }
        let path = request.uri().path().to_owned();
        let host = request.headers().get(hyper::header::HOST).and_then(|host| host.to_str().ok());
        let origin = format!("http://{}", host.unwrap_or_default());
        if !matches!(path.as_str(), "/ims/token/v3" | "/ims/exchange/jwt") {
            return denied((StatusCode::NOT_FOUND, "bad_request", "no such path"));
        }
        if request.method() != Method::POST {
            return denied((StatusCode::METHOD_NOT_ALLOWED, "bad_request", "use POST"));
        }
        // IMS also takes the parameters in the query, where client secrets end up in logs; the stand-in does not.
        let Ok(body) = Limited::new(request.into_body(), MAX_FORM).collect().await else {
            return denied((StatusCode::BAD_REQUEST, "bad_request", "the form cannot be read"));
        };
        let form = Form(form(&String::from_utf8_lossy(&body.to_bytes())));
        let lifetime = self.tokens.lifetime();
        let (checked, expires_in) = if path == "/ims/token/v3" {
            (self.check_oauth(&form), u128::from(lifetime.as_secs()))
        } else {
            (self.check_jwt(&form, &origin), lifetime.as_millis())
        };
        match checked {
            Ok(()) => granted(&self.tokens.issue(), expires_in),
            Err(denial) => denied(denial),
        }
    }

    fn check_oauth(&self, form: &Form) -> Result<(), Denial> {
        if form.get("grant_type") != "client_credentials" {
            return Err((StatusCode::BAD_REQUEST, "unsupported_grant_type", "grant_type is not supported"));
        }
        self.check_client(form)?;
        let scopes: Vec<_> =
            form.get("scope").split(',').map(str::trim).filter(|scope| !scope.is_empty()).collect();
        if scopes.is_empty() {
            return Err((StatusCode::BAD_REQUEST, "invalid_scope", "scope is empty"));
        }
        if scopes.iter().any(|scope| !SCOPES.contains(scope)) {
            return Err((
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                "the credential has not every scope asked for",
            ));
        }
        Ok(())
    }

    fn check_jwt(&self, form: &Form, origin: &str) -> Result<(), Denial> {
        self.check_client(form)?;
        self.account.check(form.get("jwt_token"), &self.client_id, origin)
    }

    fn check_client(&self, form: &Form) -> Result<(), Denial> {
        if form.get("client_id") != self.client_id {
            return Err((StatusCode::BAD_REQUEST, "invalid_client", "invalid client_id parameter"));
        }
        if form.get("client_secret") != self.client_secret {
            return Err((StatusCode::UNAUTHORIZED, "invalid_client", "invalid client_secret parameter"));
        }
        Ok(())
    }
}

fn denied((status, error, description): Denial) -> Answer {
    refusal(&Refusal::new(status, description), error)
}

fn granted(token: &str, expires_in: u128) -> Answer {
    let expires_in = u64::try_from(expires_in).unwrap_or(u64::MAX);
    let body = serde_json::json!({ "access_token": token, "token_type": "bearer", "expires_in": expires_in });
    json(StatusCode::OK, body.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ims() -> Ims {
        Ims {
            client_id: "id".into(),
            client_secret: "secret".into(),
            account: ServiceAccount::new().unwrap(),
            tokens: Tokens::new(Duration::from_secs(86_399)),
            faults: Faults::default(),
            requests: Arc::default(),
        }
    }

    fn oauth(text: &str) -> Result<(), &'static str> {
        ims().check_oauth(&Form(form(text))).map_err(|(_, error, _)| error)
    }

    #[test]
    fn the_oauth_flow_checks_every_field() {
        let grant = "grant_type=client_credentials";
        assert_eq!(
            oauth(&format!("{grant}&client_id=id&client_secret=secret&scope=openid%2CAdobeID")),
            Ok(())
        );
        let refused = |rest: &str| oauth(&format!("{grant}&{rest}")).unwrap_err();
        assert_eq!(refused("client_id=id&client_secret=secret&scope="), "invalid_scope");
        assert_eq!(refused("client_id=id&client_secret=secret&scope=openid,ent_other"), "invalid_scope");
        assert_eq!(refused("client_id=id&client_secret=wrong&scope=a"), "invalid_client");
        assert_eq!(refused("client_id=wrong&client_secret=secret&scope=a"), "invalid_client");
        assert_eq!(oauth("client_id=id&client_secret=secret&scope=a"), Err("unsupported_grant_type"));
    }
}
