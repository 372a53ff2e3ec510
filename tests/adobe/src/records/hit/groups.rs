//! The nested fields of a hit: eVars, props, products, lists, and what nobody knows.

use super::{For, Hit, NASTY, Value, events};

pub(super) fn evars(hit: &mut Hit<'_>) {
    hit.raw("\"evars\":{\"evars\":{");
    if hit.rng.one_in(3) {
        hit.raw("\"campaign\":\"DFA:");
        hit.any_digits(1_000_000);
        hit.raw(":");
        hit.any_digits(100_000_000);
        hit.raw("\",");
    }
    // The documentation writes evar1, a capture eVar1.
    let prefix = if hit.rng.one_in(2) { "evar" } else { "eVar" };
    for (n, which) in [(1, For::Evar1), (2, For::Evar2), (3, For::Evar3)] {
        let value = hit.of.evar(hit.index, which);
        if !matches!(value, Value::Absent) {
            numbered(hit, prefix, n);
            value.write_json(hit.out);
            hit.raw(",");
        }
    }
    for n in hit.spread(22, 4, 247, &[1, 7, 10, 11, 23]) {
        numbered(hit, prefix, n);
        // Counter eVars are numbers.
        if hit.rng.one_in(20) {
            hit.any_digits(10_000);
        } else {
            let value = Value::present(hit.rng.next());
            hit.of.released(hit.index, value).write_json(hit.out);
        }
        hit.raw(",");
    }
    hit.drop_comma();
    hit.raw("}},");
}

pub(super) fn props(hit: &mut Hit<'_>) {
    hit.raw("\"props\":{");
    let section = if hit.rng.one_in(2) { "site_section" } else { "channel" };
    let value = Value::of(hit.rng.next());
    hit.value(section, value);
    for n in hit.spread(11, 1, 75, &[1, 2, 7, 11]) {
        numbered(hit, "prop", n);
        if hit.rng.one_in(12) {
            list(hit, &["44", "\"44\"", "124", "58"]);
        } else {
            Value::present(hit.rng.next()).write_json(hit.out);
        }
        hit.raw(",");
    }
    hit.drop_comma();
    hit.raw("},");
}

pub(super) fn commerce(hit: &mut Hit<'_>) {
    hit.one_of("currency", &["USD", "EUR", "JPY", ""]);
    if hit.rng.one_in(8) {
        hit.raw("\"purchaseId\":\"");
        hit.any_hex();
        hit.raw("\",");
    }
    if hit.rng.one_in(8) {
        hit.one_of("state", &["CA", "BY", ""]);
        hit.one_of("zip", &["94103", "80331", ""]);
    }
    if hit.rng.one_in(2) {
        return;
    }
    hit.raw("\"products\":[");
    for _ in 0..1 + hit.rng.below(2) {
        hit.raw("{");
        hit.one_of("category", &["Clothing", "", "Schuhe & Mehr", "a~b"]);
        hit.raw("\"evars\":{");
        if hit.rng.one_in(2) {
            let n = 1 + hit.rng.below(250);
            numbered(hit, "evar", n);
            let value = Value::present(hit.rng.next());
            hit.of.released(hit.index, value).write_json(hit.out);
        }
        hit.raw("},");
        events::write_of_product(&mut hit.rng, hit.out);
        hit.raw(",");
        hit.one_of("name", &["Mens Black Running Shoes", "24\\\" Monitor", "Café \\u2615;|:,", "SKU\\\\1"]);
        // Hundredths on older streams, units with two decimals on newer ones.
        if hit.rng.one_in(2) {
            hit.any_number("revenue", 100_000);
        } else {
            hit.raw("\"revenue\":");
            hit.any_digits(1_000);
            hit.raw(".25,");
        }
        hit.any_number("units", 20);
        hit.drop_comma();
        hit.raw("},");
    }
    hit.drop_comma();
    hit.raw("],");
}

pub(super) fn lists(hit: &mut Hit<'_>) {
    if hit.rng.one_in(3) {
        hit.raw("\"hierarchies\":{");
        for name in ["site-hier", "hier2"] {
            hit.key(name);
            if hit.rng.one_in(2) {
                list(hit, &["58", "\"58\""]);
            } else {
                hit.raw("{\"delim\":58,\"values\":\"home page:clothing:mens:shoes\"}");
            }
            hit.raw(",");
        }
        hit.drop_comma();
        hit.raw("},");
    }
    if hit.rng.one_in(3) {
        hit.raw("\"mvvars\":{");
        for name in &["1", "2", "3"][..1 + hit.rng.below(3) as usize] {
            hit.key(name);
            hit.raw("{\"m\":");
            list(hit, &["44"]);
            hit.raw("},");
        }
        hit.drop_comma();
        hit.raw("},");
    }
    if hit.rng.one_in(4) {
        hit.raw("\"mcAudiences\":");
        list(hit, &["44", "\"44\""]);
        hit.raw(",");
    }
    for key in ["tnt", "tntAction"] {
        if hit.rng.one_in(5) {
            hit.key(key);
            hit.raw("[");
            for _ in 0..1 + hit.rng.below(2) {
                hit.raw("{\"campaignId\":\"");
                hit.any_digits(100_000);
                hit.raw("\",\"recipeId\":\"");
                hit.any_digits(30);
                hit.raw(
                    "\",\"trafficType\":\"0\",\"actionId\":\"1\",\"actionName\":\"Experience ~ Visit\"},",
                );
            }
            hit.drop_comma();
            hit.raw("],");
        }
    }
}

/// Adobe says that fields come and go: unknown ones must do no harm, whatever they hold.
pub(super) fn unknown(hit: &mut Hit<'_>) {
    match hit.rng.below(8) {
        0 => {
            hit.raw("\"fieldOfTheFuture");
            hit.any_digits(40);
            hit.raw("\":{\"deep\":[[1,{\"a\":null}],-2.5e-3,\"}\\\"]\"],\"hitIdHigh\":\"0\"},");
        }
        1 => {
            let value = NASTY[hit.rng.below(NASTY.len() as u64) as usize].json;
            hit.plain("clé~\\u0022\\n", value);
        }
        2 => hit.raw("\"ab\":[],\"cd\":{},"),
        _ => {}
    }
}

/// `{"values":[…],"delim":…}`
fn list(hit: &mut Hit<'_>, delimiters: &[&str]) {
    hit.raw("{\"values\":[");
    for _ in 0..1 + hit.rng.below(4) {
        hit.raw("\"");
        hit.word();
        hit.raw(":");
        hit.any_digits(1_000);
        let tail = if hit.rng.one_in(10) { " ~ \\\"x\\\" \\u00e9\"," } else { "\"," };
        hit.raw(tail);
    }
    hit.drop_comma();
    hit.raw("],");
    hit.flag("delim", delimiters);
    hit.drop_comma();
    hit.raw("}");
}

fn numbered(hit: &mut Hit<'_>, prefix: &str, n: u64) {
    hit.raw("\"");
    hit.raw(prefix);
    hit.digits(n);
    hit.raw("\":");
}
