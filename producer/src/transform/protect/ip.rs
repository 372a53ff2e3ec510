//! IP addresses: what is kept is that of many people.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

/// What Adobe sends where it has hidden the address itself.
const HIDDEN_BY_ADOBE: &str = "::X.X.X.X";
/// The first 16 bits of an IPv6 address made of an IPv4 address, which follows (6to4, RFC 3056).
const SIX_TO_FOUR: u16 = 0x2002;

/// Appends the first 24 bits of an IPv4 address, or the first 48 of an IPv6 address. False, and nothing is appended, if it
/// is neither. An IPv4 address within an IPv6 address keeps no more of itself than it would alone.
pub(super) fn mask(text: &str, out: &mut String) -> bool {
    let text = text.trim();
    if text == HIDDEN_BY_ADOBE {
        out.push_str(text);
        return true;
    }
    match text.parse() {
        Ok(IpAddr::V4(_)) => {
            // Its numbers have no zeros in front, or it would be none.
            let Some(kept) = text.rfind('.').and_then(|dot| text.get(..=dot)) else { return false };
            out.push_str(kept);
            out.push('0');
        }
        Ok(IpAddr::V6(address)) => v6(address, out),
        Err(_) => return false,
    }
    true
}

fn v6(address: Ipv6Addr, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match address.to_ipv4_mapped().map(|address| address.octets()) {
        Some([a, b, c, _]) => write!(out, "{a}.{b}.{c}.0"),
        None => {
            let [a, b, c, ..] = address.segments();
            let c = if a == SIX_TO_FOUR { c & 0xff00 } else { c };
            write!(out, "{}", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::protect::check;

    fn masked(text: &str) -> Option<String> {
        check::masked(mask, text)
    }

    #[test]
    fn an_address_keeps_its_network() {
        for (text, expected) in [
            ("198.51.100.77", "198.51.100.0"),
            (" 0.0.0.0 ", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.0"),
            ("2001:db8:85a3:8d3:1319:8a2e:370:7348", "2001:db8:85a3::"),
            ("2001:DB8::1", "2001:db8::"),
            ("::1", "::"),
            ("::ffff:198.51.100.77", "198.51.100.0"),
            ("::ffff:c633:644d", "198.51.100.0"),
            // 6to4 of 198.51.100.77.
            ("2002:c633:644d:1::1", "2002:c633:6400::"),
            ("::X.X.X.X", "::X.X.X.X"),
        ] {
            assert_eq!(masked(text).as_deref(), Some(expected), "{text}");
            assert_eq!(masked(expected).as_deref(), Some(expected), "masked again");
        }
    }

    #[test]
    fn what_is_no_address_is_not_masked() {
        for text in [
            "",
            "198.51.100",
            "198.51.100.77:80",
            "198.51.100.077",
            "198.51.100.77, 10.0.0.1",
            "fe80::1%eth0",
            "[::1]",
            "3325256781",
            "198.51.100.256",
            "192.168.0.1/24",
            "host",
        ] {
            assert_eq!(masked(text), None, "{text}");
        }
    }
}
