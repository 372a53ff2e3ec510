//! Takes the few forms of SQL apart that the product writes.

use std::collections::BTreeMap;

/// A row of the ledger, by column.
pub(crate) type Entry = BTreeMap<String, Option<String>>;

pub(crate) fn get(entry: &Entry, column: &str) -> Option<String> {
    entry.get(column).cloned().flatten()
}

pub(crate) fn number(entry: &Entry, column: &str) -> Option<u64> {
    get(entry, column)?.parse().ok()
}

/// The texts between single quotes.
pub(crate) fn literals(sql: &str) -> Vec<String> {
    sql.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The terms of a list, which may have commas within brackets.
pub(crate) fn terms(list: &str) -> impl Iterator<Item = String> {
    let (mut depth, mut terms) = (0_u32, vec![String::new()]);
    for c in list.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == ',' && depth == 0 {
            terms.push(String::new());
        } else if let Some(term) = terms.last_mut() {
            term.push(c);
        }
    }
    terms.into_iter().map(|term| term.trim().to_owned())
}

/// A column of the ledger, or a sum of columns, of which missing ones count 0.
pub(crate) fn cell(entry: &Entry, term: &str) -> Option<String> {
    if !term.contains(['+', '(']) {
        return get(entry, term);
    }
    let name = |part: &str| {
        let part = part.trim().trim_start_matches("coalesce(");
        part.split(',').next().unwrap_or_default().to_owned()
    };
    let sum: u64 = term.split('+').filter_map(|part| number(entry, &name(part))).sum();
    Some(sum.to_string())
}

/// `(1, 'a', NULL), (…)`
pub(crate) fn tuples(text: &str) -> Vec<Vec<Option<String>>> {
    let (mut tuples, mut tuple, mut word): (Vec<Vec<_>>, Vec<_>, String) =
        (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut was_quoted) = (false, false);
    for c in text.chars() {
        match (quoted, c) {
            (true, '\'') => quoted = false,
            (true, c) => word.push(c),
            (false, '\'') => (quoted, was_quoted) = (true, true),
            (false, '(') => tuple.clear(),
            (false, ',' | ')') if !word.is_empty() || was_quoted => {
                let text = std::mem::take(&mut word);
                tuple.push((was_quoted || text != "NULL").then_some(text));
                was_quoted = false;
                if c == ')' {
                    tuples.push(std::mem::take(&mut tuple));
                }
            }
            (false, ' ' | ',' | ')') => {}
            (false, c) => word.push(c),
        }
    }
    tuples
}
