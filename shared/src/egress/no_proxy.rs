//! What NO_PROXY lists, in the forms that the matcher of the HTTP clients knows: addresses, networks, domains and `*`.
//! Other programs take more forms. Those that mean the same are rewritten; one that would match nothing is a warning.

use std::net::IpAddr;

/// The entries that can match, as the matcher takes them, and those that cannot, as they were written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) usable: Vec<String>,
    pub(super) useless: Vec<String>,
}

pub(super) fn parse(value: &str) -> Entries {
    let mut entries = Entries::default();
    for written in value.split(|c: char| c == ',' || c.is_whitespace()).filter(|one| !one.is_empty()) {
        match usable(written) {
            Some(one) => entries.usable.push(one),
            None => entries.useless.push(written.to_owned()),
        }
    }
    entries
}

fn usable(written: &str) -> Option<String> {
    if written == "*" || is_network(written) || written.parse::<IpAddr>().is_ok() {
        return Some(written.to_owned());
    }
    let host = without_port(written)?;
    if host.parse::<IpAddr>().is_ok() {
        return Some(host.to_owned());
    }
    // The matcher compares whole names and their ends: `*.example.com` is its `.example.com`.
    let name = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let bare = name.strip_prefix('.').unwrap_or(name);
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let labels = bare.split('.').all(|label| !label.is_empty() && label.chars().all(legal));
    // No name of a host ends in a number: `10.` and `10.1` mean a network, which is written `10.0.0.0/8`.
    let last = bare.rsplit('.').next().unwrap_or_default();
    let number = !last.is_empty() && last.chars().all(|c| c.is_ascii_digit());
    (labels && !number).then(|| name.to_owned())
}

/// `address/bits`, as the matcher reads it.
fn is_network(written: &str) -> bool {
    let Some((address, bits)) = written.split_once('/') else { return false };
    let digits = !bits.is_empty() && bits.chars().all(|c| c.is_ascii_digit());
    let bits = bits.parse::<u8>().ok().filter(|_| digits);
    match (address.parse::<IpAddr>(), bits) {
        (Ok(IpAddr::V4(_)), Some(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Some(bits)) => bits <= 128,
        _ => false,
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`. The matcher knows no ports.
fn without_port(written: &str) -> Option<&str> {
    let port = |text: &str| !text.is_empty() && text.parse::<u16>().is_ok();
    if let Some(rest) = written.strip_prefix('[') {
        let (host, behind) = rest.split_once(']')?;
        let right = behind.is_empty() || behind.strip_prefix(':').is_some_and(port);
        return (right && host.contains(':')).then_some(host);
    }
    match written.split_once(':') {
        None => Some(written),
        Some((host, behind)) => port(behind).then_some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_means_what_the_matcher_can_say_is_rewritten() {
        for (written, usable) in [
            ("a.example, .b.example,c.example.", vec!["a.example", ".b.example", "c.example"]),
            ("a.example b.example\tc.example", vec!["a.example", "b.example", "c.example"]),
            ("*.corp.example", vec![".corp.example"]),
            ("s3.corp.example:443", vec!["s3.corp.example"]),
            ("*.corp.example:9000", vec![".corp.example"]),
            ("[fd00::7]:9000,[fd00::8],fd00::9", vec!["fd00::7", "fd00::8", "fd00::9"]),
            ("10.1.2.3:8443,10.1.2.4", vec!["10.1.2.3", "10.1.2.4"]),
            ("10.0.0.0/8,fd00::/8", vec!["10.0.0.0/8", "fd00::/8"]),
            ("*", vec!["*"]),
            (" , ,", vec![]),
        ] {
            let entries = parse(written);
            assert_eq!(entries.usable, usable, "{written}");
            assert_eq!(entries.useless, Vec::<String>::new(), "{written}");
        }
    }

    #[test]
    fn a_form_that_matches_nothing_is_told_of() {
        for written in [
            "10.*",
            "10.",
            "10.1",
            "1.2.3.4.5",
            "s3.*.amazonaws.com",
            "*corp.example",
            "http://a.example",
            "a.example/path",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/255.0.0.0",
            "[a.example]",
            "a.example:port",
            "a..example",
            "<local>",
            ".",
        ] {
            let entries = parse(written);
            assert_eq!(entries.useless, [written]);
            assert_eq!(entries.usable, Vec::<String>::new(), "{written}");
        }
    }
}
