//! What the value of a key may be, where it is one of a few words.

use serde::{Deserialize, Serialize};

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $value:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        #[allow(missing_docs, reason = "the table of keys documents them")]
        pub enum $name { $($(#[$attr])* #[serde(rename = $word)] $value,)* }

        impl $name {
            /// The word for it in the configuration.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }
    )*};
}

choices! {
    /// `adobe.auth`
    Auth { Oauth = "oauth", Jwt = "jwt", }
    /// `adobe.reset`
    Reset { Smallest = "smallest", Largest = "largest", None = "none", }
    /// `adobe.invalid_text`
    InvalidText { Replace = "replace", Reject = "reject", }
    /// `rejects.keep`
    KeepRejects { ByProtection = "", Full = "full", Protected = "protected", Reason = "reason", }
    /// `protect.pseudonym_spelling`
    Spelling { Hex = "hex", Base64url = "base64url", }
    /// `redshift.auth`
    Login { Password = "password", Iam = "iam", IamIdentity = "iam-identity", Serverless = "serverless", }
    /// `redshift.tls`
    Tls { VerifyFull = "verify-full", Disable = "disable", }
    /// `redshift.encodings`
    #[derive(Default)]
    Encodings { #[default] Auto = "auto", Explicit = "explicit", }
    /// `redshift.on_schema_change`
    OnSchemaChange { Refuse = "refuse", AddColumns = "add_columns", }
    /// `s3.server_side_encryption`
    Encryption { OfBucket = "", Aes256 = "AES256", Kms = "aws:kms", KmsDsse = "aws:kms:dsse", }
    /// `s3.acl`
    Acl { OfBucket = "", BucketOwnerFullControl = "bucket-owner-full-control", }
    /// `ingester.archive`
    Archive { Move = "move", Keep = "keep", Delete = "delete", }
    /// `alert_target.kind`
    AlertKind { Slack = "slack", PagerDuty = "pagerduty", Json = "json", }
    /// `alert_target.severity`: how bad what an alert tells is. A critical one wakes somebody.
    #[derive(PartialOrd, Ord, Serialize)]
    Severity { Warning = "warning", Critical = "critical", }
    /// `logging.format`
    LogFormat { Human = "human", Json = "json", }
}

/// Which secrets a program uses: those it does not use need not be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Adobe's and S3's: the producer knows nothing of Redshift.
    Producer,
    /// Redshift's and S3's.
    Ingester,
    /// S3's.
    Store,
    /// S3's and the key of pseudonyms.
    Replay,
    /// Those of `[alerts]` and its targets.
    Alerts,
    /// None.
    Unused,
}

impl Secrets {
    pub(super) fn adobe(self) -> bool {
        self == Self::Producer
    }

    pub(super) fn s3(self) -> bool {
        !matches!(self, Self::Unused | Self::Alerts)
    }

    pub(super) fn pseudonyms(self) -> bool {
        matches!(self, Self::Producer | Self::Replay)
    }

    pub(super) fn redshift(self) -> bool {
        self == Self::Ingester
    }

    pub(super) fn alerts(self) -> bool {
        matches!(self, Self::Producer | Self::Ingester | Self::Alerts)
    }
}

impl Auth {
    /// Where Adobe gives out tokens for credentials of this kind.
    pub fn token_url(self) -> &'static str {
        match self {
            Self::Oauth => "https://ims-na1.adobelogin.com/ims/token/v3",
            Self::Jwt => "https://ims-na1.adobelogin.com/ims/exchange/jwt",
        }
    }
}
