//! ALTER TABLE of distribution, sort order and compression, and what Redshift refuses of it:
//! <https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_TABLE.html>.

use sqlparser::ast::Ident;
use sqlparser::tokenizer::Token;

use crate::ddl::{TableName, folded, literal};
use crate::errors::SqlError;
use crate::layout::{NO_SUPER, allowed, check_sortkey, names, no_encoding, shown};
use crate::rewrite::{plain, significant};

/// The statements of an ALTER TABLE that changes the layout of a table; none if it is another.
pub(crate) fn alter(tokens: &[Token]) -> Result<Option<Vec<String>>, SqlError> {
    let tokens: Vec<&Token> = tokens.iter().filter(|token| significant(token)).collect();
    let word = |at: usize| tokens.get(at).and_then(|token| plain(token)).unwrap_or_default();
    let name = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => folded(&Ident::new(&word.value)).map(Some),
        _ => Ok(None),
    };
    let (Some(first), qualified) = (name(2)?, tokens.get(3) == Some(&&Token::Period)) else {
        return Ok(None);
    };
    let (schema, table, at) = match name(4)? {
        Some(table) if qualified => (first, table, 5),
        _ => ("public".to_owned(), first, 3),
    };
    let table = TableName { schema, table, bare: !qualified };
    if word(0) != "ALTER" || word(1) != "TABLE" || word(at) != "ALTER" {
        return Ok(None);
    }
    let (change, end) = match (word(at + 1).as_str(), word(at + 2).as_str()) {
        ("DISTKEY", _) => (name(at + 2)?.map(|column| distkey(&table, &column)), at + 3),
        ("DISTSTYLE", "KEY") if word(at + 3) == "DISTKEY" => {
            (name(at + 4)?.map(|column| distkey(&table, &column)), at + 5)
        }
        ("DISTSTYLE", "EVEN" | "ALL" | "AUTO") => (Some(diststyle(&table)), at + 3),
        ("ENCODE", "AUTO") => (Some(vec![table.update("auto_encoded = true", "true")]), at + 3),
        ("SORTKEY", "NONE") => (Some(sortkey(&table, &[])), at + 3),
        ("SORTKEY", "AUTO") => (Some(Vec::new()), at + 3),
        ("SORTKEY", _) | ("COMPOUND", "SORTKEY") => {
            let open = if word(at + 1) == "SORTKEY" { at + 2 } else { at + 3 };
            let owned: Vec<Token> = tokens.iter().map(|token| (*token).clone()).collect();
            if owned.get(open) != Some(&Token::LParen) {
                return Ok(None);
            }
            let (columns, end) = names(&owned, open + 1)?;
            check_sortkey(&columns)?;
            (Some(sortkey(&table, &columns)), end)
        }
        ("COLUMN", _) if word(at + 3) == "ENCODE" => {
            let encoding = word(at + 4).to_ascii_lowercase();
            let types = allowed(&encoding)?;
            (name(at + 2)?.map(|column| encode(&table, &column, &encoding, types)), at + 5)
        }
        _ => return Ok(None),
    };
    match change {
        Some(mut statements) if end == tokens.len() => {
            statements.insert(0, table.must_own());
            Ok(Some(statements))
        }
        Some(_) => Err(SqlError::refused("several changes in one ALTER TABLE")),
        None => Err(SqlError::with_state("42601", "syntax error in ALTER TABLE")),
    }
}

fn has_column(table: &TableName, column: &str) -> String {
    let condition = format!("column_name = {}", literal(column));
    table.refuse_unless(&condition, &format!("column \"{column}\" does not exist"))
}

fn not_interleaved(table: &TableName) -> String {
    table.refuse_if("sortkey < 0", "ALTER TABLE is not supported for tables with an interleaved sort key")
}

fn no_super(table: &TableName, column: &str) -> String {
    let condition = format!("column_name = {} AND redshift_type = 'super'", literal(column));
    table.refuse_if(&condition, NO_SUPER)
}

fn distkey(table: &TableName, column: &str) -> Vec<String> {
    let is_column = format!("column_name = {}", literal(column));
    vec![
        has_column(table, column),
        no_super(table, column),
        not_interleaved(table),
        table.refuse_if(&format!("{is_column} AND distkey"), "the column is the DISTKEY already"),
        table.update(&format!("distkey = ({is_column})"), "true"),
    ]
}

fn diststyle(table: &TableName) -> Vec<String> {
    vec![not_interleaved(table), table.update("distkey = false", "true")]
}

/// The columns of the new key are stored uncompressed; of a table that names no encoding, Redshift chooses anew for
/// those of the old.
fn sortkey(table: &TableName, columns: &[String]) -> Vec<String> {
    let mut statements: Vec<String> =
        columns.iter().flat_map(|column| [has_column(table, column), no_super(table, column)]).collect();
    statements.push(table.update(
        "encoding = CASE WHEN auto_encoded THEN standin.auto_encoding(redshift_type, false) ELSE encoding END, \
         sortkey = 0",
        "sortkey <> 0",
    ));
    for (index, column) in columns.iter().enumerate() {
        let change = format!("sortkey = {}, encoding = 'none'", index + 1);
        statements.push(table.update(&change, &format!("column_name = {}", literal(column))));
    }
    statements.push(table.keep_sorted());
    statements
}

fn encode(table: &TableName, column: &str, encoding: &str, types: &[&str]) -> Vec<String> {
    let is_column = format!("column_name = {}", literal(column));
    let types: Vec<String> = types.iter().map(|kind| literal(kind)).collect();
    let misfit = format!("{is_column} AND split_part(redshift_type, '(', 1) NOT IN ({})", types.join(", "));
    let same = format!("{is_column} AND encoding = {}", literal(shown(encoding)));
    vec![
        has_column(table, column),
        not_interleaved(table),
        table.refuse_if(&misfit, &no_encoding(column, encoding).to_string()),
        table.refuse_if(&same, &format!("column \"{column}\" has encoding {encoding} already")),
        table.update(&format!("encoding = {}", literal(shown(encoding))), &is_column),
        table.update("auto_encoded = false", "true"),
    ]
}
