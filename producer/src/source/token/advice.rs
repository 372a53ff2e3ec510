//! What to do when Adobe IMS refuses a token.

use reqwest::StatusCode;
use shared::config::Auth;

/// By `error` and `error_description` of the answer, both empty if its body has another form; `html`: it is a web page.
pub(super) fn advice(
    auth: Auth,
    status: StatusCode,
    code: &str,
    description: &str,
    html: bool,
) -> &'static str {
    let description = description.to_lowercase();
    if html {
        return "That is a web page, not Adobe IMS: check adobe.token_url, and whether a proxy stands between";
    }
    if description.contains("organization associated with this client is invalid") {
        return "The credential's organization is not active or not the one of the report suites: in the Adobe Developer \
                Console, create the credential in a project of the right organization";
    }
    if description.contains("user associated with this client is invalid") {
        return "The technical account is gone or may not use Analytics: in the Adobe Developer Console, open the \
                credential, assign it a product profile of Adobe Analytics, and have Customer Care link its e-mail \
                address to the stream";
    }
    match (code, auth) {
        ("invalid_client", _) if status == StatusCode::UNAUTHORIZED => {
            "Adobe knows the client id, but not the secret: copy it by `Retrieve client secret` of the credential in the \
             Adobe Developer Console into adobe.client_secret"
        }
        ("invalid_client", _) => {
            "Copy adobe.client_id and adobe.client_secret from the credential in the Adobe Developer Console; if it is not \
             there any more, add one"
        }
        ("invalid_scope", Auth::Oauth) => {
            "Copy adobe.scopes from the credential's card in the Adobe Developer Console"
        }
        ("invalid_scope", Auth::Jwt) => {
            "A metascope of adobe.jwt_metascopes is not one of the credential's: add the Analytics Livestream API to the \
             project in the Adobe Developer Console, or correct the list"
        }
        ("invalid_signature", _) => {
            "Upload the certificate that belongs to adobe.jwt_key to the credential in the Adobe Developer Console"
        }
        ("invalid_token", _) if description.contains("signature") => {
            "Upload the certificate that belongs to adobe.jwt_key to the credential in the Adobe Developer Console, and \
             look there whether an older one has expired"
        }
        ("invalid_token", _) => {
            "Compare adobe.jwt_organization, adobe.jwt_technical_account and adobe.client_id with the credential in the \
             Adobe Developer Console, look whether its certificate has expired, and whether this machine's clock is right"
        }
        ("unauthorized_client" | "unsupported_grant_type", Auth::Oauth) => {
            "The credential must be of type OAuth Server-to-Server: add one to the project in the Adobe Developer Console \
             (service account (JWT) credentials stopped working in 2026)"
        }
        ("unauthorized_client" | "unsupported_grant_type", Auth::Jwt) => {
            "This credential, or this IMS, takes no service accounts (JWT) any more: migrate it to OAuth Server-to-Server \
             in the Adobe Developer Console, and set adobe.auth = \"oauth\""
        }
        ("bad_request", _) => {
            "Something is missing: check that adobe.token_url belongs to adobe.auth, and no key of [adobe] was copied from \
             the Adobe Developer Console in part"
        }
        _ if status == StatusCode::NOT_FOUND => "Check adobe.token_url, and that it belongs to adobe.auth",
        _ => "Check the credential in the Adobe Developer Console and the [adobe] section",
    }
}
