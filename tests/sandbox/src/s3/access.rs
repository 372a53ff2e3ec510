//! Who may do what. Each program signs with a key of its own and may do what its policy in `deploy/` allows; on top of
//! that the bucket may ask for headers, as a bucket policy does. What is refused here is kept, and fails the scenario:
//! so no call of a program can be one that its policy lacks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Request;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::ACCESS_KEY;
use super::faults::{Asked, Operation};

/// The bucket's ARN, as the policies of `deploy/` spell it.
pub const ARN: &str = "arn:aws:s3:::example-livestream";
/// Prefix of the access keys of programs. The rest is the name of their policy.
const OF_PROGRAM: &str = "sandbox-";
/// The key that COPY reads with.
pub const COPY_KEY: &str = "sandbox-iam-copy-role";

/// How the prefixes of a second pipeline begin. Its programs have the same policies, with these prefixes.
const SECOND: &str = "Other/";
/// The prefixes of the first, as the policies spell them.
const PREFIXES: [&str; 5] = ["ToIngest/", "Ingested/", "Quarantine/", "Loads/", "Rejected/"];
/// Behind this, in the key of a program, stands which of them it has of the second: places in [`PREFIXES`].
const OF_SECOND: &str = "-second-";

/// The policies of `deploy/`.
const POLICIES: [(&str, &str); 11] = [
    ("iam-producer", include_str!("../../../../deploy/iam-producer.json")),
    ("iam-ingester", include_str!("../../../../deploy/iam-ingester.json")),
    ("iam-replay", include_str!("../../../../deploy/iam-replay.json")),
    ("iam-operator", include_str!("../../../../deploy/iam-operator.json")),
    ("iam-forget", include_str!("../../../../deploy/iam-forget.json")),
    ("iam-copy-role", include_str!("../../../../deploy/iam-copy-role.json")),
    ("iam-acl", include_str!("../../../../deploy/iam-acl.json")),
    ("iam-kms", include_str!("../../../../deploy/iam-kms.json")),
    ("iam-assume-role", include_str!("../../../../deploy/iam-assume-role.json")),
    ("iam-redshift-login", include_str!("../../../../deploy/iam-redshift-login.json")),
    ("iam-kms-copy-role", include_str!("../../../../deploy/iam-kms-copy-role.json")),
];

/// The access keys that the store knows, besides the tests' own.
pub(super) fn keys() -> impl Iterator<Item = String> {
    POLICIES.iter().flat_map(|(policy, _)| {
        (0..1_u32 << PREFIXES.len()).map(move |some| {
            let places = (0..PREFIXES.len()).filter(|place| (some >> place) & 1 == 1);
            with_prefixes(format!("{OF_PROGRAM}{policy}"), places)
        })
    })
}

fn with_prefixes(key: String, of_second: impl Iterator<Item = usize>) -> String {
    let places: String = of_second.map(|place| place.to_string()).collect();
    if places.is_empty() { key } else { format!("{key}{OF_SECOND}{places}") }
}

/// The key of a program without what it has of the second pipeline, and that.
fn of_pipelines(key: &str) -> (&str, &str) {
    key.split_once(OF_SECOND).unwrap_or((key, ""))
}

/// The key that a program signs with when it has this configuration: it is good for its own prefixes alone.
#[must_use]
pub fn key_for(program: &str, command: Option<&str>, config: &str) -> String {
    let of_second = PREFIXES.iter().enumerate().filter(|(_, prefix)| {
        // As the tests write it.
        config.contains(&format!("\"{SECOND}{prefix}\""))
    });
    with_prefixes(key_of(program, command), of_second.map(|(place, _)| place))
}

/// The key that a program of the first pipeline signs with: that of its service, or that of a person.
#[must_use]
pub fn key_of(program: &str, command: Option<&str>) -> String {
    let policy = match (program, command) {
        ("producer", Some("replay")) => "iam-replay",
        ("producer", _) => "iam-producer",
        (_, Some("run" | "check")) => "iam-ingester",
        (_, Some("forget")) => "iam-forget",
        _ => "iam-operator",
    };
    format!("{OF_PROGRAM}{policy}")
}

/// A policy of `deploy/`.
#[derive(Debug)]
pub struct Policy {
    name: &'static str,
    statements: Vec<Value>,
}

impl Policy {
    /// The policy of this name. There is none that allows nothing, so an unknown one allows nothing.
    #[must_use]
    pub fn read(name: &str) -> Self {
        let found = POLICIES.iter().find(|(known, _)| *known == name);
        let (name, text) = found.copied().unwrap_or(("none", "{}"));
        let policy: Value = serde_json::from_str(text).unwrap_or_default();
        let statements = policy["Statement"].as_array().cloned().unwrap_or_default();
        Self { name, statements }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it allows this action on this resource.
    #[must_use]
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let any = |value: &Value, text: &str| match value {
            Value::String(pattern) => fits(pattern, text),
            Value::Array(patterns) => {
                patterns.iter().filter_map(Value::as_str).any(|pattern| fits(pattern, text))
            }
            _ => false,
        };
        self.statements.iter().any(|statement| {
            statement["Effect"] == "Allow"
                && any(&statement["Action"], action)
                && any(&statement["Resource"], resource)
        })
    }
}

/// As IAM compares: `*` stands for any characters, also for `/`.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|after| {
            after.char_indices().map(|(at, _)| at).chain([after.len()]).any(|at| fits(rest, &after[at..]))
        }),
    }
}

type Headers = Vec<(&'static str, &'static str)>;

#[derive(Debug)]
struct State {
    policies: BTreeMap<String, Policy>,
    refused: Vec<String>,
    of_every_call: Headers,
    of_every_write: Headers,
    demanded: u64,
}

/// The rules of the bucket, and what they refused. Clones share both.
#[derive(Debug, Clone)]
pub struct Access(Arc<Mutex<State>>);

impl Default for Access {
    fn default() -> Self {
        let policies = POLICIES.iter().map(|(name, _)| (format!("{OF_PROGRAM}{name}"), Policy::read(name)));
        Self(Arc::new(Mutex::new(State {
            policies: policies.collect(),
            refused: Vec::new(),
            of_every_call: Vec::new(),
            of_every_write: Vec::new(),
            demanded: 0,
        })))
    }
}

impl Access {
    /// From now on every request but those of COPY must have the first headers, and every PUT and copy the second, too.
    pub fn demand(
        &self,
        of_every_call: &[(&'static str, &'static str)],
        of_every_write: &[(&'static str, &'static str)],
    ) {
        let mut state = self.state();
        state.of_every_call = of_every_call.to_vec();
        state.of_every_write = of_every_write.to_vec();
    }

    /// How many requests had all the headers that were asked for.
    #[must_use]
    pub fn demanded(&self) -> u64 {
        self.state().demanded
    }

    /// What was refused since the last call, with the reason.
    #[must_use]
    pub fn take_refused(&self) -> Vec<String> {
        std::mem::take(&mut self.state().refused)
    }

    /// Whether the rules allow this request. A refusal is kept.
    pub(super) fn allows<B>(&self, request: &Request<B>, asked: &Asked) -> bool {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let mut state = self.state();
        let key = signer(request).unwrap_or_default();
        let (program, _) = of_pipelines(&key);
        let mut lacks = Vec::new();
        if key != ACCESS_KEY {
            let acl = Policy::read("iam-acl");
            let allowed = |action: &str, resource: &str| {
                let own = state.policies.get(program).is_some_and(|own| own.allows(action, resource));
                own || acl.allows(action, resource)
            };
            let with_acl = header("x-amz-acl").is_some();
            let needs = needs(&key, asked, header("x-amz-copy-source"), with_acl);
            lacks.extend(needs.into_iter().filter(|(action, resource)| !allowed(action, resource)));
        }
        let mut why: Vec<_> =
            lacks.iter().map(|(action, resource)| format!("{action} of {resource}")).collect();
        let write = matches!(asked.operation, Operation::Put | Operation::Copy);
        let demanded = state.of_every_call.iter().chain(state.of_every_write.iter().filter(|_| write));
        // Redshift knows nothing of them.
        let demanded: Headers = demanded.filter(|_| key != COPY_KEY).copied().collect();
        let missing = demanded.iter().filter(|(name, value)| header(name) != Some(value));
        why.extend(missing.map(|(name, value)| format!("no {name}: {value}")));
        if why.is_empty() {
            state.demanded += u64::from(!demanded.is_empty());
            return true;
        }
        state.refused.push(format!("{key} {:?} {}: {}", asked.operation, asked.key, why.join(", ")));
        false
    }

    /// Whether a missing object is told from a forbidden one.
    pub(super) fn may_list(&self, key: &str) -> bool {
        let (program, _) = of_pipelines(key);
        key == ACCESS_KEY
            || self.state().policies.get(program).is_some_and(|policy| policy.allows("s3:ListBucket", ARN))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The access key id that a request is signed with.
pub(super) fn signer<B>(request: &Request<B>) -> Option<String> {
    let header = request.headers().get(hyper::header::AUTHORIZATION)?.to_str().ok()?;
    let (_, rest) = header.split_once("Credential=")?;
    rest.split_once('/').map(|(key, _)| key.to_owned())
}

/// The ARN of an object, as the policies of the one who signs with `key` spell it. They are those of the first pipeline;
/// whoever has a prefix of the second has it in place of the first one's.
fn object(key: &str, name: &str) -> String {
    if key == COPY_KEY {
        // One role reads for both.
        return format!("{ARN}/{}", name.strip_prefix(SECOND).unwrap_or(name));
    }
    let (_, of_second) = of_pipelines(key);
    for place in of_second.chars().filter_map(|place| place.to_digit(10)) {
        let Some(prefix) = PREFIXES.get(place as usize) else { continue };
        if name.starts_with(prefix) {
            // No policy speaks of it.
            return format!("{ARN}/of-the-first-pipeline/{name}");
        }
        if let Some(own) = name.strip_prefix(SECOND).filter(|own| own.starts_with(prefix)) {
            return format!("{ARN}/{own}");
        }
    }
    format!("{ARN}/{name}")
}

/// The permissions a request needs:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>.
fn needs(key: &str, asked: &Asked, copied: Option<&str>, with_acl: bool) -> Vec<(&'static str, String)> {
    let own = object(key, &asked.key);
    let mut needs = match asked.operation {
        Operation::Get | Operation::Head => vec![("s3:GetObject", own.clone())],
        Operation::Put | Operation::Copy => vec![("s3:PutObject", own.clone())],
        Operation::Delete => vec![("s3:DeleteObject", own.clone())],
        Operation::List => vec![("s3:ListBucket", ARN.to_owned())],
        Operation::Other => vec![("s3:Other", own.clone())],
    };
    if let Some(source) = copied {
        let source = percent_decode_str(source).decode_utf8_lossy().into_owned();
        let name = source.trim_start_matches('/').split_once('/').map_or("", |(_, name)| name);
        needs.push(("s3:GetObject", object(key, name)));
    }
    if with_acl {
        needs.push(("s3:PutObjectAcl", own));
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    const INGESTED: &str = "[s3]\ningested = \"Other/Ingested/\"\nquarantine = \"Other/Quarantine/\"\n";

    #[test]
    fn a_program_signs_with_a_key_that_is_good_for_its_own_prefixes_alone() {
        let first = key_for("ingester", Some("run"), "[s3]\n");
        assert_eq!(first, key_of("ingester", Some("run")));
        let second = key_for("ingester", Some("run"), INGESTED);
        assert!(keys().any(|known| known == first) && keys().any(|known| known == second), "{second}");
        let policy = Policy::read("iam-ingester");
        let may_read = |key: &str, name: &str| policy.allows("s3:GetObject", &object(key, name));
        for (name, of_first, of_second) in [
            ("Ingested/x", true, false),
            ("Other/Ingested/x", false, true),
            ("Quarantine/x", true, false),
            ("Other/Quarantine/x", false, true),
            // This prefix is the same for both.
            ("ToIngest/x", true, true),
            ("Other/ToIngest/x", false, false),
        ] {
            assert_eq!(may_read(&first, name), of_first, "{name}");
            assert_eq!(may_read(&second, name), of_second, "{name}");
        }
        let copy = Policy::read("iam-copy-role");
        for name in ["ToIngest/x", "Other/ToIngest/x"] {
            assert!(copy.allows("s3:GetObject", &object(COPY_KEY, name)), "one role reads for both: {name}");
        }
    }

    #[test]
    fn a_replay_is_held_against_a_policy_of_its_own() {
        let key = key_of("producer", Some("replay"));
        assert_ne!(key, key_of("producer", Some("run")));
        assert!(keys().any(|known| known == key));
    }
}
