//! From flags, defaults and questions to answers that the configuration accepts.

use std::io;
use std::path::Path;

use anyhow::anyhow;
use shared::config::{Config, Secrets};
use shared::exit::{Exit, Failure};

use crate::commands::init::configuration::{Places, text};
use crate::commands::init::questions::{Answers, QUESTIONS, Question};
use crate::commands::init::terminal::Terminal;

/// The configuration, as text and as the programs read it.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) text: String,
    pub(super) config: Config,
}

/// Takes what the flags say, asks for the rest, and asks again for what the configuration refuses. Without a terminal,
/// whatever would be asked is an error; with `yes` only what has no default.
pub(super) fn gather(
    mut answers: Answers,
    places: &Places,
    mut terminal: Option<&mut Terminal<'_>>,
    yes: bool,
) -> Result<Accepted, Failure> {
    let by_flags: Vec<_> = answers.keys().copied().collect();
    loop {
        answer(&mut answers, places, terminal.as_deref_mut().filter(|_| !yes), yes)?;
        let text = text(&answers, places);
        let error = match Config::parse(&text, Path::new("init"), std::iter::empty(), Secrets::Unused) {
            Ok(config) => return Ok(Accepted { text, config }),
            Err(error) => error,
        };
        let problems: Vec<_> = error.problems.iter().map(|problem| by_flag(problem)).collect();
        let wrong = QUESTIONS.iter().filter(|question| {
            let typed = question.asked && !by_flags.contains(&question.flag);
            typed && error.problems.iter().any(|problem| is_about(problem, question))
        });
        let wrong: Vec<_> = wrong.map(|question| question.flag).collect();
        match terminal.as_deref_mut().filter(|_| !yes && !wrong.is_empty()) {
            Some(terminal) => {
                terminal.say(&format!("\nThis cannot be:\n  {}", problems.join("\n  "))).map_err(ended)?;
                answers.retain(|flag, _| !wrong.contains(flag));
            }
            None => {
                let error = anyhow!("nothing was written; correct this:\n  {}", problems.join("\n  "));
                return Err(Failure::new(Exit::Usage, error));
            }
        }
    }
}

/// Completes the answers.
fn answer(
    answers: &mut Answers,
    places: &Places,
    mut terminal: Option<&mut Terminal<'_>>,
    yes: bool,
) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for question in QUESTIONS {
        let Question { flag, text, asked, .. } = question;
        if answers.contains_key(flag) {
            continue;
        }
        let default = match flag {
            "instance" => Some(places.instance.as_str()),
            // Who logs in as an IAM identity is no user of ours.
            "user" if !needs_user(answers) => continue,
            _ => question.default,
        };
        let given = match (terminal.as_deref_mut(), default) {
            (Some(terminal), _) if asked => terminal.ask(text, default).map_err(ended)?,
            (_, Some(default)) if yes || !asked => default.to_owned(),
            (_, default) => {
                missing.push((flag, default.is_some()));
                continue;
            }
        };
        answers.insert(flag, given);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let listed = |with_default| {
        let flags = missing.iter().filter(|(_, default)| *default == with_default);
        flags.map(|(flag, _)| format!("--{flag}")).collect::<Vec<_>>().join(", ")
    };
    let (needed, usual) = (listed(false), listed(true));
    let advice = match (needed.is_empty(), usual.is_empty()) {
        (false, true) => format!("give {needed}"),
        (true, _) => format!("give --yes to take the defaults of {usual}"),
        (false, false) => format!("give {needed}, and --yes to take the defaults of {usual}"),
    };
    let error = anyhow!("nobody can be asked here: {advice}, or run it on a terminal");
    Err(Failure::new(Exit::Usage, error))
}

fn needs_user(answers: &Answers) -> bool {
    answers.get("auth").is_none_or(|auth| auth == "password" || auth == "iam")
}

fn is_about(problem: &str, question: &Question) -> bool {
    problem.split_once(": ").is_some_and(|(key, _)| key == question.key)
}

/// A complaint of the configuration, by the flag that the answer can be given with.
fn by_flag(problem: &str) -> String {
    match QUESTIONS.iter().find(|question| is_about(problem, question)) {
        Some(question) => format!("--{} ({}){}", question.flag, question.key, &problem[question.key.len()..]),
        None => problem.to_owned(),
    }
}

pub(super) fn ended(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Failure::new(Exit::Usage, anyhow!("nothing was written: {error} before all was answered"))
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [(&str, &str); 7] = [
        ("client-id", "0123456789abcdef"),
        ("stream-url", "https://livestream.adobe.net/api/1/stream/my-endpoint"),
        ("bucket", "the-bucket"),
        ("region", "eu-central-1"),
        ("redshift-host", "example.abc123.eu-central-1.redshift.amazonaws.com"),
        ("database", "analytics"),
        ("iam-role", "arn:aws:iam::123456789012:role/livestream-copy"),
    ];

    fn needed() -> Answers {
        NEEDED.into_iter().map(|(flag, value)| (flag, value.to_owned())).collect()
    }

    fn places() -> Places {
        Places::example("/etc/livestream/web-1.toml")
    }

    #[test]
    fn with_flags_for_what_is_needed_the_rest_has_defaults() {
        let Accepted { config, .. } = gather(needed(), &places(), None, true).unwrap();
        assert_eq!(config.instance.name.to_string(), "web-1");
        assert_eq!((config.redshift.user.as_str(), config.redshift.port), ("livestream_loader", 5439));
        assert_eq!(config.redshift.ledger.unquoted(), "public.livestream_ledger");
    }

    #[test]
    fn without_a_terminal_what_is_missing_is_named_with_what_to_give() {
        let mut some = needed();
        some.remove("bucket");
        let refused = |answers, yes| gather(answers, &places(), None, yes).unwrap_err();
        let failure = refused(some.clone(), true);
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(failure.to_string(), "nobody can be asked here: give --bucket, or run it on a terminal");
        assert_eq!(
            refused(some, false).to_string(),
            "nobody can be asked here: give --bucket, and --yes to take the defaults of --instance, --table, --auth, \
             --user, or run it on a terminal"
        );
        let usual = refused(needed(), false).to_string();
        assert!(
            usual.contains("give --yes to take the defaults of --instance, --table, --auth, --user"),
            "{usual}"
        );
    }

    #[test]
    fn wrong_answers_are_named_by_their_flags_all_at_once() {
        let mut wrong = needed();
        wrong.insert("redshift-host", "example.com:5439/dev".to_owned());
        wrong.insert("stream-url", "http://livestream.adobe.net/x".to_owned());
        wrong.insert("auth", "kerberos".to_owned());
        let said = gather(wrong.clone(), &places(), None, true).unwrap_err().to_string();
        assert!(said.contains("--auth (redshift.auth): "), "{said}");
        wrong.remove("auth");
        let said = gather(wrong, &places(), None, true).unwrap_err().to_string();
        for expected in [
            "nothing was written",
            "--redshift-host (redshift.host): must be the name of the host alone: write host = \"example.com\"",
            "--stream-url (adobe.stream_url): must be https",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }

    #[test]
    fn a_terminal_is_asked_and_what_is_wrong_is_asked_again() {
        let typed = "\nclient\nhttps://livestream.adobe.net/api/1/stream/e\nbucket\neu-central-1\nhost.example:5439\n\
                     dev\nana.hits\niam-identity\narn:aws:iam::123456789012:role/r\n\
                     other.abc.eu-central-1.redshift.amazonaws.com\n";
        let (mut input, mut output) = (typed.as_bytes(), Vec::new());
        let mut terminal = Terminal::typed(&mut input, &mut output);
        let accepted = gather(Answers::new(), &places(), Some(&mut terminal), false).unwrap();
        let said = String::from_utf8(output).unwrap();
        assert!(
            said.contains("This cannot be:\n") && said.contains("  --redshift-host (redshift.host): must be"),
            "{said}"
        );
        assert_eq!(said.matches("S3: bucket").count(), 1, "{said}");
        assert!(!said.contains("user that owns"), "an IAM identity has none: {said}");
        let redshift = &accepted.config.redshift;
        assert_eq!(redshift.host, "other.abc.eu-central-1.redshift.amazonaws.com");
        assert_eq!((redshift.ledger.unquoted().as_str(), redshift.user.as_str()), ("ana.hits_ledger", ""));
        let (mut input, mut output) = (&b"web-3\n"[..], Vec::new());
        let mut terminal = Terminal::typed(&mut input, &mut output);
        let failure = gather(Answers::new(), &places(), Some(&mut terminal), false).unwrap_err();
        assert!(
            failure.exit() == Exit::Usage && failure.to_string().starts_with("nothing was written"),
            "{failure}"
        );
    }
}
