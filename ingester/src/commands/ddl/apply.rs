//! Sends the statements, one after the other, each a transaction of its own: Redshift runs some of them in no other way.
//!
//! A command that ends early leaves tables that differ less, and the next one asks the catalog what is left. A statement
//! without an answer may be carried out, or still be under way, so nothing is sent after it. One that is refused may have
//! been done by somebody else meanwhile, such as an ingester that adds columns: the catalog tells.

use std::collections::HashSet;
use std::io::Write;

use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::human::{counted, duration};

use crate::commands::connect::sql_failed;
use crate::commands::ddl::differences::{Differences, Wanted};
use crate::commands::terminal::confirm;
use crate::failure::LoadFailure;
use crate::identity::refuse_other_table;
use crate::redshift::doing::Doing;
use crate::redshift::server::Server;
use crate::redshift::{SqlFailure, Target, errors, ledger_mark};

/// Compares, asks and sends until nothing is left that a statement can alter.
pub(super) async fn apply(
    server: &impl Server,
    config: &Config,
    wanted: &Wanted,
    yes: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let target = Target::new(config, &wanted.schema, "ingester ddl".to_owned());
    match ledger_mark::read(server, &target).await {
        Ok(Some(mark)) => refuse_other_table(config, &mark)?,
        Err(lost @ SqlFailure::Lost(_)) => return Err(sql_failed(Doing::ReadMark)(lost)),
        // There is no ledger yet, or one of an earlier version: it claims no table.
        Ok(None) | Err(_) => {}
    }
    let mut sent: HashSet<String> = HashSet::new();
    loop {
        let differences = fetch(server, wanted).await?;
        out.write_all(differences.text().as_bytes())?;
        let statements: Vec<String> = differences.statements().map(str::to_owned).collect();
        if let Some(again) = statements.iter().find(|statement| sent.contains(*statement)) {
            let error = anyhow::anyhow!(
                "Redshift has taken this statement, and its catalog wants it as before: {}",
                head(again)
            );
            return Err(Failure::new(Exit::Unavailable, error));
        }
        if statements.is_empty() {
            return end(wanted, &differences);
        }
        let count = counted(statements.len() as u64, "statement", "statements");
        confirm(yes, &format!("Send {count} to Redshift?"), out)?;
        for (number, statement) in statements.iter().enumerate() {
            let place = format!("{} of {}", number + 1, statements.len());
            send(server, wanted, statement, &place, out).await?;
        }
        sent.extend(statements);
    }
}

async fn fetch(server: &impl Server, wanted: &Wanted) -> Result<Differences, Failure> {
    Differences::fetch(server, wanted).await.map_err(sql_failed(Doing::ReadColumns))
}

async fn send(
    server: &impl Server,
    wanted: &Wanted,
    statement: &str,
    place: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let began = server.clock().steady();
    let text = head(statement);
    let Err(failure) = server.run(statement).await else {
        let took = duration(began.until(server.clock().steady()));
        writeln!(out, "-- {place} done in {took}: {text}")?;
        return Ok(out.flush()?);
    };
    let refused = matches!(failure, SqlFailure::Refused { .. });
    if refused && fetch(server, wanted).await?.statements().all(|left| left != statement) {
        writeln!(out, "-- {place} was done by somebody else: {text}")?;
        return Ok(());
    }
    let what = if refused {
        "was refused; what was done before it stays, and the same command goes on when this is mended"
    } else {
        "was sent and not answered; the same command asks the catalog, and does what is left"
    };
    let verdict = errors::judge_at(&failure, Doing::Alter);
    let why = format!("{place} {what}: {text}: {failure}");
    Err(LoadFailure::of_all(verdict.class, why, verdict.advice).into())
}

/// The only line of a statement, or the first of CREATE TABLE.
fn head(statement: &str) -> &str {
    statement.lines().next().unwrap_or_default()
}

fn end(wanted: &Wanted, differences: &Differences) -> Result<(), Failure> {
    if differences.fatal.is_empty() {
        return Ok(());
    }
    let error = anyhow::anyhow!(
        "every COPY into {} would fail, and no ALTER TABLE mends it: {}; the comments say what to do",
        wanted.table,
        differences.fatal.join("; ")
    );
    Err(Failure::new(Exit::Data, error))
}

#[cfg(test)]
mod tests {
    use shared::schema::{Column, Kind, Schema, SqlType};

    use super::*;
    use crate::redshift::ddl::{LEDGER_COLUMNS, TableOptions};
    use crate::redshift::server::script::Script;
    use crate::redshift::sql::Table;

    fn wanted() -> Wanted {
        let column =
            |name: &str| Column::new(name, vec![name.parse().unwrap()], Kind::Text, SqlType::Varchar(9));
        Wanted {
            table: Table("hits".parse().unwrap()),
            ledger: Table("ledger".parse().unwrap()),
            schema: Schema::new(vec![column("old"), column("new")], "t").unwrap(),
            options: TableOptions::default(),
        }
    }

    type CatalogRow = [Option<&'static str>; 7];

    fn row(name: &'static str, sql_type: &'static str) -> CatalogRow {
        let bytes = sql_type.strip_prefix("varchar(").map(|bytes| bytes.trim_end_matches(')'));
        let type_name = if bytes.is_some() { "character varying" } else { sql_type };
        [Some(name), Some(type_name), bytes, None, None, Some("YES"), None]
    }

    /// Answers for the catalog: the table has the first column, or both; the ledger and its lock are as they should be.
    fn catalog(script: Script, both: bool) -> Script {
        let table = [row("old", "varchar(9)"), row("new", "varchar(9)")];
        let table = if both { &table[..] } else { &table[..1] };
        let ledger =
            LEDGER_COLUMNS.map(|(name, definition)| row(name, definition.split(' ').next().unwrap()));
        let lock = [row("nothing", "smallint")];
        let rows = |rows: &'_ [CatalogRow]| rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>();
        let answer = |script: Script, part, answer: &[CatalogRow]| {
            let rows = rows(answer);
            script.answer(part, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        let script = answer(
            script,
            "svv_columns WHERE table_schema = current_schema() AND table_name = 'hits'",
            table,
        );
        let script = answer(
            script,
            "svv_columns WHERE table_schema = current_schema() AND table_name = 'ledger'",
            &ledger,
        );
        answer(
            script,
            "svv_columns WHERE table_schema = current_schema() AND table_name = 'ledger_lock'",
            &lock,
        )
    }

    async fn sent(script: &Script) -> (Result<(), Failure>, String) {
        let mut out = Vec::new();
        let done = send(script, &wanted(), ALTER, "1 of 2", &mut out).await;
        (done, String::from_utf8(out).unwrap())
    }

    const ALTER: &str = "ALTER TABLE \"hits\" ADD COLUMN \"new\" varchar(9);";

    #[tokio::test]
    async fn each_statement_is_told_when_it_is_done() {
        let (done, said) = sent(&Script::default()).await;
        done.unwrap();
        assert_eq!(said, format!("-- 1 of 2 done in 0s: {ALTER}\n"));
    }

    #[tokio::test]
    async fn a_refusal_is_told_unless_somebody_else_was_faster() {
        let exists = "column \"new\" of relation \"hits\" already exists";
        let (done, said) = sent(&catalog(Script::default().refuse("ALTER", exists), true)).await;
        done.unwrap();
        assert_eq!(said, format!("-- 1 of 2 was done by somebody else: {ALTER}\n"));
        let refused = catalog(Script::default().refuse("ALTER", "must be owner of relation hits"), false);
        let failure = sent(&refused).await.0.unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        let said = failure.to_string();
        assert!(said.contains("1 of 2 was refused; what was done before it stays"), "{said}");
        assert!(said.contains("must be owner of relation hits: let redshift.user own"), "{said}");
    }

    #[tokio::test]
    async fn the_differences_have_the_statements_that_are_left_and_nothing_that_drops() {
        let left = Differences::fetch(&catalog(Script::default(), false), &wanted()).await.unwrap();
        assert_eq!(left.statements().collect::<Vec<_>>(), [ALTER], "{}", left.text());
        assert_eq!(left.fatal, ["new is not in the table"]);
        let none = Differences::fetch(&catalog(Script::default(), true), &wanted()).await.unwrap();
        assert_eq!(none.statements().count(), 0, "{}", none.text());
        assert!(end(&wanted(), &none).is_ok());
        let failure = end(&wanted(), &left).unwrap_err();
        assert_eq!(failure.exit(), Exit::Data);
    }
}
