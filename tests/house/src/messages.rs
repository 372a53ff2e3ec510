//! What the programs log with severity ERROR, found in the tokens of their sources.

use std::fs;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::{CRATES, files, without_tests, workspace};

/// The text of one `error!`.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorText {
    /// The file, from the workspace.
    pub file: String,
    /// The words that begin it, as a page names them. Empty if the text has none of its own.
    pub words: String,
}

/// The texts of every `error!` of the product. One that consists of values alone, such as `"{what}: {failure}"`, takes its
/// words from the function around it: each text of that function counts.
///
/// # Panics
/// When a source cannot be read or parsed.
#[must_use]
#[expect(clippy::expect_used, reason = "tests fail by panicking")]
pub fn error_texts() -> Vec<ErrorText> {
    let root = workspace();
    let mut found = Vec::new();
    for path in CRATES.iter().flat_map(|krate| files(&root.join(krate).join("src"), ".rs")) {
        let file = path.strip_prefix(&root).expect("the file lies in the workspace").display().to_string();
        if file.split('/').any(|part| part == "tests" || part == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("the file can be read");
        let tokens: TokenStream = without_tests(&text).parse().expect("the file can be parsed");
        found.extend(texts_of(&tokens).into_iter().map(|words| ErrorText { file: file.clone(), words }));
    }
    found
}

/// The first words of every `error!` among these tokens.
fn texts_of(tokens: &TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    walk(tokens, tokens, &mut found);
    found
}

/// `function` is the body of the innermost function around `tokens`.
fn walk(tokens: &TokenStream, function: &TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut begins_function = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(ident) if ident == "fn" => begins_function = true,
            TokenTree::Punct(punct) if punct.as_char() == ';' => begins_function = false,
            TokenTree::Group(group) => {
                let stream = group.stream();
                if is_error(&tokens[..at]) {
                    found.extend(words_of(&stream, function));
                }
                let is_body = begins_function && group.delimiter() == Delimiter::Brace;
                walk(&stream, if is_body { &stream } else { function }, found);
                begins_function &= !is_body;
            }
            _ => {}
        }
    }
}

/// Whether tokens end with `error !`, of `error!(…)` or `tracing::error!(…)`.
fn is_error(before: &[TokenTree]) -> bool {
    matches!(before, [.., TokenTree::Ident(name), TokenTree::Punct(bang)] if name == "error" && bang.as_char() == '!')
}

/// The words of an `error!` with these arguments, or of every text of the function around it.
fn words_of(arguments: &TokenStream, function: &TokenStream) -> Vec<String> {
    let arguments: Vec<TokenTree> = arguments.clone().into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    let message = arguments.split(is_comma).find_map(|argument| match argument {
        [only] => literal(only),
        _ => None,
    });
    let words = first_words(&message.unwrap_or_default());
    if !words.is_empty() {
        return vec![words];
    }
    let mut others = Vec::new();
    literals(function, &mut others);
    let mut others: Vec<String> = others.iter().map(|text| first_words(text)).collect();
    others.retain(|words| !words.is_empty());
    if others.is_empty() { vec![String::new()] } else { others }
}

fn literal(token: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = token else { return None };
    syn::parse_str::<syn::LitStr>(&literal.to_string()).ok().map(|text| text.value())
}

fn literals(tokens: &TokenStream, found: &mut Vec<String>) {
    for token in tokens.clone() {
        found.extend(literal(&token));
        if let TokenTree::Group(group) = token {
            literals(&group.stream(), found);
        }
    }
}

/// The first part of a text that no value interrupts and that has two words or more, to the end of its first clause.
fn first_words(text: &str) -> String {
    let trim = |part: &str| part.trim_matches([' ', ';', ':', ',', '.', '(', '\'', '`']).to_owned();
    let mut parts = text.split(['{', '}']).step_by(2).map(trim);
    let part = parts.find(|part| part.contains(' ')).unwrap_or_default();
    let end = ["; ", ": "].iter().filter_map(|end| part.find(end)).min().unwrap_or(part.len());
    let clause = trim(&part[..end]);
    if clause.contains(' ') { clause } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<String> {
        texts_of(&source.parse().unwrap())
    }

    #[test]
    fn the_words_of_an_error_are_those_before_its_first_value_or_its_second_clause() {
        let source = r#"
            fn a() {
                tracing::error!(%error, wait = %f("not, it"), "no token");
                select! { _ = b => error!(
                    "status socket failed; `state dump` cannot \
                     reach it") }
                tracing::warn!("not this");
                tracing::error!("{what} failed; again in {wait:.1} s");
            }
        "#;
        assert_eq!(found(source), ["no token", "status socket failed", "failed; again in"]);
    }

    #[test]
    fn an_error_of_values_alone_takes_the_texts_of_its_function() {
        let source = r#"
            fn a() { f("elsewhere it is") }
            fn b(x: u8) {
                let what = match x { 0 => "is held up", _ => "waits whole" };
                tracing::error!(n, "{what}: {failure}");
            }
            fn c() { tracing::error!("{name}: {why}") }
        "#;
        assert_eq!(found(source), ["is held up", "waits whole", ""]);
    }
}
