//! Distribution, sort order and compression of a new table or column: sqlparser does not read them, the catalog shows
//! them, and Redshift refuses some. <https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_TABLE_NEW.html>.

use sqlparser::ast::Ident;
use sqlparser::tokenizer::Token;

use crate::ddl::{Identity, folded, literal};
use crate::errors::SqlError;
use crate::rewrite::{plain, significant};

/// Redshift's limit.
const MAX_SORT_COLUMNS: usize = 400;
/// The encodings under which Redshift alters no length.
pub(crate) const FIXED: [&str; 4] = ["bytedict", "runlength", "text255", "text32k"];

/// What a CREATE TABLE or an ALTER TABLE ADD COLUMN says beside the columns and their types.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// By column; in ALTER TABLE there is one.
    encodings: Vec<(String, String)>,
    distkey: Option<String>,
    sortkey: Vec<String>,
    interleaved: bool,
    identities: Vec<(String, Identity)>,
}

impl Layout {
    /// Takes distribution, sort order and compression out of a statement.
    pub(crate) fn take(tokens: &[Token]) -> Result<(Vec<Token>, Self), SqlError> {
        let mut layout = Self::default();
        let mut kept: Vec<Token> = Vec::with_capacity(tokens.len());
        let (mut depth, mut at) = (0, 0);
        let mut column = String::new();
        while let Some(token) = tokens.get(at) {
            // Right after `(` or `,` stands the name of a column, whatever the word.
            let before = kept.iter().rev().find(|token| significant(token));
            let names_column = matches!(before, None | Some(Token::LParen | Token::Comma));
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::Word(word) if names_column && depth == 1 => column = word.value.to_ascii_lowercase(),
                _ => {}
            }
            let next = if names_column { None } else { layout.attribute(tokens, at, depth, &column)? };
            at = next.unwrap_or_else(|| {
                kept.push(token.clone());
                at + 1
            });
        }
        Ok((kept, layout))
    }

    /// Reads the attribute that begins here, if one does, and answers where it ends.
    fn attribute(
        &mut self,
        tokens: &[Token],
        at: usize,
        depth: i32,
        column: &str,
    ) -> Result<Option<usize>, SqlError> {
        let Some(word) = tokens.get(at).and_then(plain) else { return Ok(None) };
        let follows = next(tokens, at + 1);
        let following = follows.and_then(|at| tokens.get(at));
        let after = follows.map_or(tokens.len(), |at| at + 1);
        let listed = following == Some(&Token::LParen);
        Ok(Some(match word.as_str() {
            "ENCODE" if depth == 0 && following.and_then(plain).as_deref() == Some("AUTO") => after,
            "ENCODE" => {
                let encoding = following.and_then(plain).unwrap_or_default().to_ascii_lowercase();
                self.encodings.push((column.to_owned(), encoding));
                after
            }
            "DISTSTYLE" | "BACKUP" => after,
            "IDENTITY" if listed => self.numbers(tokens, after, column, false)?,
            "GENERATED" => {
                let words = ["BY", "DEFAULT", "AS", "IDENTITY"];
                let mut end = at;
                for word in words {
                    end = next(tokens, end + 1).unwrap_or(tokens.len());
                    if tokens.get(end).and_then(plain).as_deref() != Some(word) {
                        return Err(SqlError::with_state("42601", "syntax error at or near \"GENERATED\""));
                    }
                }
                let open = next(tokens, end + 1).unwrap_or(tokens.len());
                self.numbers(tokens, open + 1, column, true)?
            }
            "COMPOUND" => at + 1,
            "INTERLEAVED" => {
                self.interleaved = true;
                at + 1
            }
            "DISTKEY" => {
                let (name, end) = if listed { names(tokens, after)? } else { (Vec::new(), at + 1) };
                let name = name.into_iter().next().unwrap_or_else(|| column.to_owned());
                if self.distkey.replace(name).is_some() {
                    return Err(SqlError::internal("a table has one DISTKEY"));
                }
                end
            }
            "SORTKEY" if following.and_then(plain).as_deref() == Some("AUTO") => after,
            "SORTKEY" => {
                let (columns, end) =
                    if listed { names(tokens, after)? } else { (vec![column.to_owned()], at + 1) };
                if !self.sortkey.is_empty() {
                    return Err(SqlError::internal("a table has one SORTKEY"));
                }
                self.sortkey = columns;
                end
            }
            _ => return Ok(None),
        }))
    }

    /// Reads the `seed, step)` of an identity column and answers where it ends.
    fn numbers(
        &mut self,
        tokens: &[Token],
        at: usize,
        column: &str,
        by_default: bool,
    ) -> Result<usize, SqlError> {
        let syntax = || SqlError::with_state("42601", "syntax error in IDENTITY (seed, step)");
        let rest = tokens.get(at..).unwrap_or_default();
        let length = rest.iter().position(|token| *token == Token::RParen).ok_or_else(syntax)?;
        let text: String = rest.iter().take(length).map(ToString::to_string).collect();
        let (seed, step) = text.split_once(',').ok_or_else(syntax)?;
        let number = |text: &str| text.trim().parse::<i64>().map_err(|_| syntax());
        let identity = Identity { seed: number(seed)?, step: number(step)?, by_default };
        self.identities.push((column.to_owned(), identity));
        Ok(at + length + 1)
    }

    /// How the column numbers its rows, if it does.
    pub(crate) fn identity(&self, column: &str) -> Option<&Identity> {
        self.identities.iter().find(|(name, _)| name == column).map(|(_, identity)| identity)
    }

    /// Refuses what no table of these columns, by name and type, can have.
    pub(crate) fn check(&self, types: impl Fn(&str) -> Option<String>) -> Result<(), SqlError> {
        let keys = self.sortkey.iter().chain(&self.distkey);
        for column in keys {
            match types(column).as_deref() {
                None => return Err(no_column(column)),
                Some("super") => return Err(SqlError::internal(format!("{column}: {NO_SUPER}"))),
                Some(_) => {}
            }
        }
        check_sortkey(&self.sortkey)?;
        for (index, (column, encoding)) in self.encodings.iter().enumerate() {
            let kind = types(column).ok_or_else(|| no_column(column))?;
            if !allowed(encoding)?.contains(&base(&kind)) {
                return Err(no_encoding(column, encoding));
            }
            if self.encodings.iter().take(index).any(|(other, _)| other == column) {
                return Err(SqlError::internal(format!("{column} has two encodings")));
            }
        }
        Ok(())
    }

    /// What `standin.columns` keeps of a column besides its type: `encoding, distkey, sortkey`.
    pub(crate) fn row(&self, column: &str, kind: &str) -> String {
        let place = self.sortkey.iter().position(|name| name == column).map_or(0, |index| index + 1);
        let place = i32::try_from(place).unwrap_or(i32::MAX);
        let negative = self.interleaved && place % 2 == 1;
        let encoding = match self.encodings.iter().find(|(name, _)| name == column) {
            Some((_, encoding)) => format!("{}::text", literal(shown(encoding))),
            None => format!("standin.auto_encoding({}, {})", literal(kind), place > 0),
        };
        format!(
            "{encoding}, {}, {}::int",
            self.distkey.as_deref() == Some(column),
            if negative { -place } else { place },
        )
    }

    /// Whether it leaves the encodings of a table to Redshift (ENCODE AUTO).
    pub(crate) fn is_auto(&self) -> bool {
        self.encodings.is_empty()
    }

    /// An added column is part of no key.
    pub(crate) fn is_without_keys(&self) -> bool {
        self.distkey.is_none() && self.sortkey.is_empty()
    }

    /// The encoding of the only column, of an ALTER TABLE ADD COLUMN, gets its name.
    pub(crate) fn named(mut self, column: &str) -> Self {
        for (name, _) in &mut self.encodings {
            column.clone_into(name);
        }
        self
    }
}

pub(crate) const NO_SUPER: &str = "a SUPER column cannot be a DISTKEY or SORTKEY";

pub(crate) fn check_sortkey(columns: &[String]) -> Result<(), SqlError> {
    if columns.len() > MAX_SORT_COLUMNS {
        return Err(SqlError::internal(format!("a sort key has at most {MAX_SORT_COLUMNS} columns")));
    }
    match columns.iter().enumerate().find(|(index, name)| columns.iter().take(*index).any(|it| it == *name)) {
        Some((_, name)) => Err(SqlError::internal(format!("column \"{name}\" is twice in the SORTKEY"))),
        None => Ok(()),
    }
}

fn no_column(column: &str) -> SqlError {
    SqlError::with_state("42703", format!("column \"{column}\" does not exist"))
}

pub(crate) fn no_encoding(column: &str, encoding: &str) -> SqlError {
    SqlError::internal(format!("invalid encoding type {encoding} specified for column \"{column}\""))
}

/// The types an encoding is for, without their lengths:
/// <https://docs.aws.amazon.com/redshift/latest/dg/c_Compression_encodings.html>.
pub(crate) fn allowed(encoding: &str) -> Result<&'static [&'static str], SqlError> {
    const TYPES: [&str; 13] = [
        "super",
        "boolean",
        "real",
        "double precision",
        "character",
        "character varying",
        "date",
        "timestamp without time zone",
        "timestamp with time zone",
        "smallint",
        "integer",
        "bigint",
        "numeric",
    ];
    Ok(match encoding {
        "raw" | "zstd" => &TYPES,
        "lzo" => &TYPES[4..],
        "bytedict" => &TYPES[2..],
        "runlength" => &TYPES[1..],
        "az64" | "delta" => &TYPES[6..],
        // Not SMALLINT.
        "delta32k" => &[
            "date",
            "timestamp without time zone",
            "timestamp with time zone",
            "integer",
            "bigint",
            "numeric",
        ],
        "mostly8" => &TYPES[9..],
        "mostly16" => &TYPES[10..],
        "mostly32" => &TYPES[11..],
        "text255" | "text32k" => &["character varying"],
        other => return Err(SqlError::with_state("42601", format!("invalid encoding type \"{other}\""))),
    })
}

fn base(kind: &str) -> &str {
    kind.split('(').next().unwrap_or(kind)
}

/// The catalog's name of an encoding.
pub(crate) fn shown(encoding: &str) -> &str {
    if encoding == "raw" { "none" } else { encoding }
}

fn next(tokens: &[Token], from: usize) -> Option<usize> {
    (from..tokens.len()).find(|at| tokens.get(*at).is_some_and(significant))
}

/// Names up to the closing parenthesis, and where it ends.
pub(crate) fn names(tokens: &[Token], from: usize) -> Result<(Vec<String>, usize), SqlError> {
    let mut names = Vec::new();
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token {
            Token::Word(word) => names.push(folded(&Ident::new(&word.value))?),
            Token::RParen => return Ok((names, at + 1)),
            Token::Comma | Token::Whitespace(_) => {}
            other => {
                return Err(SqlError::with_state("42601", format!("syntax error at or near \"{other}\"")));
            }
        }
    }
    Err(SqlError::with_state("42601", "syntax error at end of input"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite::{split, text};

    fn take(sql: &str) -> (String, Layout) {
        let (kept, layout) = Layout::take(&split(sql).unwrap().remove(0)).unwrap();
        (text(&kept).split_whitespace().collect::<Vec<_>>().join(" "), layout)
    }

    #[test]
    fn table_attributes_are_taken_and_columns_named_like_them_stay() {
        let (kept, layout) = take(
            "CREATE TABLE t (distkey int ENCODE az64, b varchar(9) ENCODE zstd DISTKEY NOT NULL) \
             DISTSTYLE KEY COMPOUND SORTKEY (distkey, \"B\")",
        );
        assert_eq!(kept, "CREATE TABLE t (distkey int , b varchar(9) NOT NULL)");
        let owned = |(column, encoding): (&str, &str)| (column.to_owned(), encoding.to_owned());
        let encodings = [("distkey", "az64"), ("b", "zstd")].map(owned).to_vec();
        let sortkey = vec!["distkey".to_owned(), "b".to_owned()];
        assert_eq!(layout, Layout { encodings, distkey: Some("b".to_owned()), sortkey, ..Layout::default() });
        let (kept, layout) = take("CREATE TABLE t (a int SORTKEY, b decimal(20,0)) ENCODE AUTO");
        assert_eq!(kept, "CREATE TABLE t (a int , b decimal(20,0))");
        assert_eq!(layout.sortkey, ["a"]);
        assert!(layout.encodings.is_empty());
    }

    #[test]
    fn what_no_table_can_have_is_refused() {
        let types = |column: &str| match column {
            "a" => Some("integer".to_owned()),
            "b" => Some("character varying(9)".to_owned()),
            "c" => Some("super".to_owned()),
            _ => None,
        };
        let check = |sql: &str| take(sql).1.check(types).is_ok();
        assert!(check("CREATE TABLE t (a int ENCODE az64, b varchar(9) ENCODE text255) SORTKEY (a, b)"));
        for sql in [
            "CREATE TABLE t (a int ENCODE text255)",
            "CREATE TABLE t (b varchar(9) ENCODE az64)",
            "CREATE TABLE t (c super ENCODE bytedict)",
            "CREATE TABLE t (a int ENCODE best)",
            "CREATE TABLE t (c super) SORTKEY (c)",
            "CREATE TABLE t (c super DISTKEY)",
            "CREATE TABLE t (a int) SORTKEY (a, a)",
            "CREATE TABLE t (a int) DISTKEY (z)",
        ] {
            assert!(!check(sql), "{sql}");
        }
    }
}
