//! The flat fields of a hit: who, when, with what, from where, on which page.

use super::{For, Hit, Kind, Value};

const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.6422.142 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
];

/// Spellings of true and false seen for flags.
const FLAGS: &[&str] = &["true", "false", "1", "0", "\"Y\"", "\"N\"", "\"\"", "null"];

pub(super) fn identity(hit: &mut Hit<'_>) {
    let (high, low) = hit.of.hit_id(hit.index);
    hit.number_or_text("hitIdHigh", high, 5);
    hit.number_or_text("hitIdLow", low, 5);
    let visitor = super::super::mix(hit.of.visitor(hit.index));
    hit.number_or_text("visIdHigh", visitor, 5);
    hit.number_or_text("visIdLow", super::super::mix(visitor ^ 1), 5);
    hit.any_number("visIdType", 6);
    if hit.rng.one_in(3) {
        // Nineteen digits each; only text can keep the zeros in front.
        for key in ["mcVisIdHigh", "mcVisIdLow"] {
            let id = hit.rng.below(10_000_000_000_000_000_000);
            if hit.rng.one_in(2) {
                hit.number(key, id);
            } else {
                hit.key(key);
                hit.raw("\"");
                let digits = id.checked_ilog10().unwrap_or(0) as usize + 1;
                hit.raw(&"0000000000000000000"[digits..]);
                hit.digits(id);
                hit.raw("\",");
            }
        }
    }
    let draw = hit.rng.next();
    if draw & 3 == 0 {
        hit.value("customVisId", Value::of(draw >> 4));
    }
    if hit.rng.one_in(16) {
        let session = hit.rng.next() >> 1;
        hit.number("sessionId", session);
    }
    hit.flag("hitSource", &["1", "1", "1", "5", "7"]);
}

pub(super) fn times(hit: &mut Hit<'_>) {
    let (time, received) = (hit.of.time_at(hit.index), hit.of.received_at(hit.index));
    hit.number_or_text("timeGMT", time, 8);
    hit.number_or_text("receivedTimeGMT", received, 8);
    hit.plain("reportSuite", "examplecomprod");
    if hit.rng.one_in(2) {
        hit.one_of("service", &["ss", "pe", ""]);
    }
}

pub(super) fn exclusion(hit: &mut Hit<'_>) {
    match hit.of.kind(hit.index) {
        Kind::Excluded => {
            hit.raw("\"exclude\":{");
            let reason = 1 + hit.rng.below(12);
            hit.number_or_text("id", reason, 2);
            hit.plain("value", "yes");
            hit.plain("description", "exclude: matched an IP or bot rule");
            hit.drop_comma();
            hit.raw("},");
        }
        Kind::Hit if hit.rng.one_in(3) => {}
        Kind::Hit => {
            hit.raw("\"exclude\":{");
            hit.number_or_text("id", 0, 2);
            hit.raw("\"value\":\"no\",\"description\":\"include\"},");
        }
    }
    hit.flag("truncated", &["false", "false", "true", "\"N\"", "\"Y\""]);
    hit.one_of("bot", &["<Not a bot>", "<Not a bot>", "<Not a bot>", "<Bot>", "Googlebot"]);
}

pub(super) fn browser(hit: &mut Hit<'_>) {
    match hit.rng.below(8) {
        0 => hit.plain("ip", "0.0.0.0"),
        1 => hit.plain("ip", "::X.X.X.X"),
        2 => hit.plain("ip", "2001:db8:0:0:8d3::"),
        _ => {
            hit.raw("\"ip\":\"");
            for after in [".", ".", ".", "\","] {
                hit.any_digits(256);
                hit.raw(after);
            }
        }
    }
    let agent = hit.rng.pick(AGENTS);
    hit.plain("userAgent", if hit.of.lacks_agent(hit.index) { "" } else { agent });
    hit.one_of(
        "browser",
        &["Google Chrome 126.0", "Firefox 127.0", "Safari 17.5", "Edge 125.0", "Opera ~ Mini"],
    );
    hit.one_of("browserType", &["Google", "Mozilla", "Apple", "Microsoft", ""]);
    if let Some(width) = hit.of.browser_width(hit.index) {
        hit.number_or_text("browserWidth", width, 16);
    }
    hit.any_number("browserHeight", 2_000);
    hit.one_of("operatingSystem", &["OS X 10.15.7", "Windows 10", "Linux", "Mobile iOS 17.5", "Android 14"]);
    hit.one_of("language", &["English", "German", "French (Canada)", "Japanese", "Español"]);
    hit.one_of("languageAbbrev", &["en-US", "de-DE", "fr-CA", "ja-JP", "es-ES"]);
    hit.flag("javaEnabled", FLAGS);
    hit.flag("usesPersistentCookie", &["0", "1", "2"]);
    hit.any_number("monitorWidth", 5_000);
    hit.any_number("monitorHeight", 3_000);
    hit.one_of("monitorColorDepth", &["16 million colors", "Unknown", "4 billion colors"]);
    hit.one_of("connectionType", &["LAN/WiFi", "Modem", "Mobile Carrier"]);
    if hit.rng.one_in(10) {
        // Older streams had these.
        hit.one_of("javascriptVersion", &["1.6", "1.8"]);
        hit.any_number("homePage", 2);
        hit.plain("plugins", "Shockwave Flash;Chrome PDF Viewer;Widevine ~ CDM;");
    }
}

pub(super) fn mobile(hit: &mut Hit<'_>) {
    if !hit.rng.one_in(5) {
        return;
    }
    hit.one_of("carrier", &["AT&T", "Deutsche Telekom", "Orange", "ソフトバンク"]);
    hit.one_of("mobileDeviceName", &["iPhone 15 Pro", "Galaxy S24", "Pixel 8", ""]);
    hit.one_of("mobileDeviceType", &["Mobile Phone", "Tablet", "Media Player"]);
    hit.one_of("mobileManufacturer", &["Apple", "Samsung", "Google"]);
    hit.any_number("mobileScreenWidth", 2_000);
    hit.any_number("mobileScreenHeight", 3_000);
    hit.flag("mobileColorDepth", &["24", "\"16777216\"", "\"16.7 million\""]);
    hit.flag("mobileCookieSupport", &["true", "false"]);
    hit.flag("mobileAudioSupport", &["true", "false", "\"MP3,AAC,AMR\"", "\"\""]);
    hit.flag("mobileVideoSupport", &["true", "false", "\"MPEG4,3GPP,H.264\"", "\"\""]);
}

pub(super) fn geography(hit: &mut Hit<'_>) {
    hit.one_of("geoCity", &["paris", "são paulo", "münchen", "san francisco", "東京", "?"]);
    hit.one_of("geoCountry", &["fra", "bra", "deu", "usa", "jpn", "can"]);
    hit.one_of("geoRegion", &["j", "sp", "by", "ca", "13", ""]);
    hit.one_of("geoZip", &["75001", "01310-100", "80331", "94103", "K1A 0B1", ""]);
    hit.any_number("geoDMA", 900);
    let (lat, lon) = if hit.rng.one_in(2) { ("lat", "lon") } else { ("geoLatitude", "geoLongitude") };
    let style = hit.rng.below(5);
    for (key, whole) in [(lat, 90), (lon, 180)] {
        match style {
            0 => continue,
            1 => hit.plain(key, ""),
            _ => {
                hit.key(key);
                hit.raw(if style == 2 { "" } else { "\"" });
                hit.raw(if hit.index & 1 == 0 { "-" } else { "" });
                hit.any_digits(whole);
                hit.raw(".");
                hit.any_digits(1_000_000);
                hit.raw(if style == 2 { "," } else { "\"," });
            }
        }
    }
}

pub(super) fn page(hit: &mut Hit<'_>) {
    hit.one_of("domain", &["sfr.net", "t-ipconnect.de", "comcast.net", "example.co.jp"]);
    hit.one_of("topLevelDomain", &[".net", ".de", ".com", ".jp"]);
    let name = hit.of.page_name(hit.index);
    hit.value("pageName", name);
    url(hit, "pageURL");
    hit.flag("isErrorPage", &["false", "false", "true"]);
    if hit.rng.one_in(4) {
        hit.plain("referrer", "");
    } else {
        url(hit, "referrer");
    }
    hit.one_of("searchEngine", &["Google", "Microsoft Bing", "", "Yahoo! Japan"]);
    hit.value("transactionId", Value::of(hit.of.draw(hit.index, For::Visitor) >> 3));
}

fn url(hit: &mut Hit<'_>, key: &str) {
    hit.key(key);
    hit.raw("\"https://www.example.com/");
    hit.word();
    hit.raw("/");
    hit.word();
    hit.raw("/page");
    hit.any_digits(100_000);
    hit.raw(".html");
    match hit.rng.below(4) {
        0 => {
            hit.raw("?utm_source=");
            hit.word();
            hit.raw("&gclid=");
            hit.any_hex();
            hit.any_hex();
            hit.raw("&q=a%20~b\\u0026c");
        }
        1 => {
            hit.raw("?id=");
            hit.any_hex();
        }
        _ => {}
    }
    hit.raw("\",");
}
