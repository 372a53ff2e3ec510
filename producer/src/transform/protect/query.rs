//! URLs without what a visitor or a form put into them.

/// What begins a query, also one that is encoded within the path.
const ENCODED: [&str; 2] = ["%3f", "%253f"];

/// Appends a URL as far as its query. Of its fragment only a plain name or route is kept. False, and nothing is appended, if
/// it is no URL.
pub(super) fn mask(text: &str, out: &mut String) -> bool {
    let text = text.trim();
    let mut kept = text.get(..begins(text)).unwrap_or_default();
    if let Some(hash) = memchr::memchr(b'#', kept.as_bytes())
        && let (page, Some(fragment)) = (kept.get(..hash).unwrap_or_default(), kept.get(hash + 1..))
        && !fragment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.!:".contains(&byte))
    {
        kept = page;
    }
    if !is_url(kept) {
        return false;
    }
    out.push_str(kept);
    true
}

/// Where the query begins, or parameters of the path (`;jsessionid=…`).
fn begins(text: &str) -> usize {
    let bytes = text.as_bytes();
    memchr::memchr3_iter(b'?', b';', b'%', bytes)
        .find(|at| {
            let rest = bytes.get(*at..).unwrap_or_default();
            let is = |mark: &str| {
                rest.get(..mark.len()).is_some_and(|rest| rest.eq_ignore_ascii_case(mark.as_bytes()))
            };
            rest.first() != Some(&b'%') || ENCODED.into_iter().any(is)
        })
        .unwrap_or(text.len())
}

/// Whether it is a URL, with a scheme or without, or the path of one. One with the name of a user in it is not taken, nor a
/// text with a dot in it that may be the name of a person as well as of a host.
pub(super) fn is_url(text: &str) -> bool {
    let colon = memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len());
    let (scheme, rest) = text.split_at(colon);
    if let Some(rest) = rest.strip_prefix("://") {
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_scheme {
            return begins_with_host(rest);
        }
    }
    match text.strip_prefix("//") {
        Some(rest) => begins_with_host(rest),
        None if text.starts_with('/') => true,
        None => begins_with_host(text) && begins_with_domain(text),
    }
}

fn begins_with_host(text: &str) -> bool {
    let is_of_host = |byte: &u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b':' | b'[' | b']' | b'_' | 0x80..);
    let host = text.bytes().take_while(is_of_host).count();
    host > 0 && matches!(text.as_bytes().get(host), None | Some(b'/' | b'#'))
}

/// As people write a URL without its scheme: `www.example.com`, `example.com/`.
fn begins_with_domain(text: &str) -> bool {
    let (host, has_path) = text.split_once('/').map_or((text, false), |(host, _)| (host, true));
    let name = host.split(['#', ':']).next().unwrap_or_default();
    let top = name.rsplit_once('.').map_or("", |(_, top)| top);
    (has_path || name.starts_with("www.")) && top.len() > 1 && top.chars().all(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::protect::check;

    fn masked(text: &str) -> Option<String> {
        check::masked(mask, text)
    }

    #[test]
    fn a_url_ends_before_its_query() {
        for (text, expected) in [
            ("https://www.example.com/a/b.html?q=jane&x=1#top", "https://www.example.com/a/b.html"),
            ("https://www.example.com/a#top", "https://www.example.com/a#top"),
            ("https://www.example.com/#/cart/items", "https://www.example.com/#/cart/items"),
            ("https://www.example.com/#/cart?email=jane", "https://www.example.com/#/cart"),
            ("https://www.example.com/#token=abc", "https://www.example.com/"),
            ("https://www.example.com/#token%3Dabc", "https://www.example.com/"),
            (
                "https://www.example.com/go/https%3A%2F%2Fx%3Femail=j",
                "https://www.example.com/go/https%3A%2F%2Fx",
            ),
            ("https://www.example.com/go/x%253Femail", "https://www.example.com/go/x"),
            ("https://www.example.com/a;jsessionid=1?x", "https://www.example.com/a"),
            ("www.example.com:8080/a?b", "www.example.com:8080/a"),
            ("example.com/?b", "example.com/"),
            ("//cdn.example.com/a?b", "//cdn.example.com/a"),
            ("/a?b", "/a"),
            ("android-app://com.example/path?x", "android-app://com.example/path"),
        ] {
            assert_eq!(masked(text).as_deref(), Some(expected), "{text}");
            assert_eq!(masked(expected).as_deref(), Some(expected), "masked again");
        }
    }

    #[test]
    fn what_is_no_url_is_not_masked() {
        for text in [
            "",
            "?q=jane",
            "q=jane&x=1",
            "jane doe",
            "jane.doe",
            "1000000000.1/a",
            "mailto:jane@example.com",
            "javascript:alert(1)",
            "https://jane:secret@www.example.com/",
            "https://",
            "jane@example.com/a",
        ] {
            assert_eq!(masked(text), None, "{text}");
        }
    }
}
