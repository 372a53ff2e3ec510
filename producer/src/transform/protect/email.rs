//! E-mail addresses: the domain is kept.

const DOMAIN_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// Appends `@` and the domain. False, and nothing is appended, if the text does not end in `@` and a domain: behind the last
/// `@` nothing of the person may stand.
pub(super) fn mask(text: &str, out: &mut String) -> bool {
    let Some((_, domain)) = text.trim().rsplit_once('@').filter(|(_, domain)| is_domain(domain)) else {
        return false;
    };
    out.push('@');
    out.push_str(domain);
    true
}

fn is_domain(text: &str) -> bool {
    let Some((_, top)) = text.rsplit_once('.') else { return false };
    let is_top = top.len() > 1 && (top.starts_with("xn--") || top.chars().all(char::is_alphabetic));
    is_top && text.len() <= DOMAIN_BYTES && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| c.is_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::protect::check;

    fn masked(text: &str) -> Option<String> {
        check::masked(mask, text)
    }

    #[test]
    fn an_address_keeps_its_domain() {
        for (text, expected) in [
            ("jane.doe@example.com", "@example.com"),
            ("mailto:jane@mail.example.co.uk ", "@mail.example.co.uk"),
            ("\"jane@home\"@example.com", "@example.com"),
            ("jane@bücher.example", "@bücher.example"),
            ("jane@example.xn--p1ai", "@example.xn--p1ai"),
        ] {
            assert_eq!(masked(text).as_deref(), Some(expected), "{text}");
            assert_eq!(masked(expected).as_deref(), Some(expected), "masked again");
        }
    }

    #[test]
    fn what_is_no_address_is_not_masked() {
        for text in [
            "",
            "@",
            "jane",
            "jane@",
            "jane%40example.com",
            "jane@localhost",
            "jane@[198.51.100.7]",
            "jane@198.51.100.7",
            "Jane <jane@example.com>",
            "jane@example.com?cc=joe",
            "jane@example.com.",
            "jane@example..com",
            "jane@-example.com",
            "jane@exam ple.com",
        ] {
            assert_eq!(masked(text), None, "{text}");
        }
    }
}
