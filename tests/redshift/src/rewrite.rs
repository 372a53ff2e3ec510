//! From the text a client sends to text PostgreSQL 15 and sqlparser can read: token by token, so that nothing
//! but the words meant is touched.

use sqlparser::dialect::RedshiftSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::errors::SqlError;

/// The tokens of each statement in a query string; empty statements are left out.
pub(crate) fn split(sql: &str) -> Result<Vec<Vec<Token>>, SqlError> {
    // Without unescaping, printing the tokens gives the text back.
    let tokens = Tokenizer::new(&RedshiftSqlDialect {}, sql)
        .with_unescape(false)
        .tokenize()
        .map_err(|error| SqlError::with_state("42601", format!("syntax error: {error}")))?;
    let statements = tokens.split(|token| *token == Token::SemiColon);
    Ok(statements.filter(|tokens| tokens.iter().any(significant)).map(<[Token]>::to_vec).collect())
}

/// The tokens as text.
pub(crate) fn text(tokens: &[Token]) -> String {
    let mut sql = String::new();
    for token in tokens {
        match token {
            // The one literal whose text is unescaped all the same.
            Token::EscapedStringLiteral(value) => {
                sql.push_str(&format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''")));
            }
            other => sql.push_str(&other.to_string()),
        }
    }
    sql.trim().to_owned()
}

/// Words in upper case of the first significant tokens, to tell statements apart.
pub(crate) fn leading_words(tokens: &[Token]) -> Vec<String> {
    let words = tokens.iter().filter(|token| significant(token)).map_while(|token| match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    });
    words.take(3).collect()
}

/// What every statement needs. Names fold to lower case even in quotes:
/// <https://docs.aws.amazon.com/redshift/latest/dg/r_names.html>.
pub(crate) fn common(tokens: Vec<Token>) -> Result<Vec<Token>, SqlError> {
    let tokens: Vec<Token> = tokens.into_iter().map(fold_quoted).collect();
    let mut out = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if let Some(word) = plain(&tokens[at]) {
            if word.starts_with("PG_ADVISORY") || word.starts_with("PG_TRY_ADVISORY") {
                return Err(SqlError::refused("Redshift has no advisory locks"));
            }
            if word == "SYSDATE" {
                out.extend([name("standin"), Token::Period, name("sysdate"), Token::LParen, Token::RParen]);
                at += 1;
                continue;
            }
            let moved = ["VERSION", "PG_TERMINATE_BACKEND"].contains(&word.as_str());
            if moved && tokens.get(at + 1) == Some(&Token::LParen) {
                out.extend([name("standin"), Token::Period]);
            }
            // PostgreSQL's own view would show the types of the private tables.
            if word == "INFORMATION_SCHEMA"
                && tokens.get(at + 1) == Some(&Token::Period)
                && tokens.get(at + 2).and_then(plain).as_deref() == Some("COLUMNS")
            {
                out.extend([name("standin"), Token::Period, name("svv_columns")]);
                at += 3;
                continue;
            }
        }
        out.push(tokens[at].clone());
        at += 1;
    }
    Ok(out)
}

/// What of a COPY sqlparser does not know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CopyExtras {
    pub(crate) max_error: u32,
    pub(crate) no_load: bool,
    pub(crate) round_decimals: bool,
    pub(crate) trim_blanks: bool,
}

/// Takes MAXERROR, NOLOAD, ROUNDEC, TRIMBLANKS and QUOTE out of a COPY.
pub(crate) fn without_copy_extras(tokens: &[Token]) -> Result<(Vec<Token>, CopyExtras), SqlError> {
    let mut extras = CopyExtras::default();
    let mut out = Vec::with_capacity(tokens.len());
    let mut rest = tokens.iter();
    let mut depth = 0;
    while let Some(token) = rest.next() {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        match plain(token).as_deref() {
            Some("NOLOAD") if depth == 0 => extras.no_load = true,
            Some("ROUNDEC") if depth == 0 => extras.round_decimals = true,
            Some("TRIMBLANKS") if depth == 0 => extras.trim_blanks = true,
            Some("MAXERROR") if depth == 0 => {
                let value = rest.find(|token| significant(token) && plain(token).as_deref() != Some("AS"));
                let number = match value {
                    Some(Token::Number(digits, _)) => digits.parse().ok().filter(|number| *number <= 100_000),
                    _ => None,
                };
                extras.max_error =
                    number.ok_or_else(|| SqlError::internal("MAXERROR must be between 0 and 100000"))?;
            }
            // sqlparser wants it right behind CSV; Redshift takes it anywhere.
            Some("QUOTE") if depth == 0 => {
                let value = rest.find(|token| significant(token) && plain(token).as_deref() != Some("AS"));
                if value != Some(&Token::SingleQuotedString("\"".to_owned())) {
                    return Err(SqlError::refused("COPY with a QUOTE other than the double quote"));
                }
            }
            _ => out.push(token.clone()),
        }
    }
    Ok((out, extras))
}

/// Whether it is more than white space or a comment.
pub(crate) fn significant(token: &Token) -> bool {
    !matches!(token, Token::Whitespace(_))
}

/// A word without quotes, in upper case.
pub(crate) fn plain(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    }
}

fn name(value: &str) -> Token {
    Token::make_word(value, None)
}

fn fold_quoted(token: Token) -> Token {
    match token {
        Token::Word(word) if word.quote_style.is_some() => {
            Token::Word(Word { value: word.value.to_ascii_lowercase(), ..word })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sql: &str) -> Vec<Token> {
        let mut statements = split(sql).unwrap();
        assert_eq!(statements.len(), 1);
        statements.remove(0)
    }

    #[test]
    fn the_text_of_a_statement_survives() {
        for sql in
            [r#"SELECT 'it''s; ok', "a""b", E'x\\y' -- end"#, "INSERT INTO t VALUES ('a\\\\b', 1.50, -2)"]
        {
            assert_eq!(text(&one(sql)), sql);
        }
        assert_eq!(split("BEGIN; ; COMMIT;").unwrap().len(), 2);
    }

    #[test]
    fn quoted_names_fold_and_functions_move() {
        let sql = text(
            &common(one(r#"SELECT "Hit_ID", version(), sysdate FROM INFORMATION_SCHEMA.COLUMNS"#)).unwrap(),
        );
        assert_eq!(sql, r#"SELECT "hit_id", standin.version(), standin.sysdate() FROM standin.svv_columns"#);
    }

    #[test]
    fn copy_options_unknown_to_the_parser_are_taken_out() {
        let (kept, extras) = without_copy_extras(&one(
            "COPY t (noload) FROM 's3://b/k' NOLOAD MAXERROR AS 7 CSV ROUNDEC TRIMBLANKS",
        ))
        .unwrap();
        let all = CopyExtras { max_error: 7, no_load: true, round_decimals: true, trim_blanks: true };
        assert_eq!(extras, all);
        assert!(text(&kept).starts_with("COPY t (noload) FROM"));
        assert!(without_copy_extras(&one("COPY t FROM 's3://b/k' MAXERROR 100001")).is_err());
    }
}
