//! Each statement and comment of `ddl --diff` as text; `alter.rs` has their order.

use shared::schema::{Encoding, SqlType};

use super::add::add_column;
use super::compare::{Difference, LiveColumn, Misfit, Wanted, What};
use crate::redshift::sql::{Table, ident, idents};

/// The encodings under which Redshift changes no type.
const FIXED: [Encoding; 4] = [Encoding::Bytedict, Encoding::Runlength, Encoding::Text255, Encoding::Text32k];

/// A column of both sides whose length or encoding may have to change.
pub(super) struct Change<'a> {
    pub(super) column: &'a Wanted<'a>,
    /// None if it was just added.
    pub(super) live: Option<&'a LiveColumn>,
    pub(super) short: bool,
}

/// How a column is stored when its turn comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    As(Encoding),
    /// ALTER SORTKEY decided it.
    Unknown,
    /// The catalog could not be read, or has an encoding that this version does not know.
    Unread,
}

impl Stored {
    pub(super) fn now(change: &Change<'_>) -> Self {
        let layout = change.live.and_then(|live| live.layout);
        layout.and_then(|layout| layout.encoding).map_or(Self::Unread, Self::As)
    }
}

/// What is printed: a statement or a comment a line.
pub(super) struct Statements<'a> {
    table: &'a Table,
    /// Whether the sort key is interleaved so far.
    interleaved: bool,
    pub(super) lines: Vec<String>,
}

impl<'a> Statements<'a> {
    pub(super) fn new(table: &'a Table, interleaved: bool) -> Self {
        Self { table, interleaved, lines: Vec::new() }
    }

    pub(super) fn comment(&mut self, comment: &str) {
        self.lines.extend(comment.lines().map(|line| format!("-- {line}")));
    }

    fn alter_table(&mut self, change: &str) {
        self.lines.push(format!("ALTER TABLE {} {change};", self.table));
    }

    pub(super) fn rename(&mut self, then: &str, now: &str) {
        let then = ident(then);
        self.comment(&format!("Programs of versions that call it {then} load nothing from here on."));
        self.alter_table(&format!("RENAME COLUMN {then} TO {}", ident(now)));
    }

    /// All but a varchar's length, which is part of a [`Change`].
    pub(super) fn column(&mut self, difference: &Difference) {
        let column = ident(&difference.column);
        let table = self.table;
        let comment = match &difference.what {
            What::Missing { definition, .. } => {
                return self.alter_table(&add_column(&difference.column, definition));
            }
            What::Type { misfit: Misfit::Short, .. } => return,
            What::Type { misfit, wanted, live } => {
                let consequence = match misfit {
                    Misfit::Altered => "some values are altered",
                    Misfit::Other => "Redshift refuses every value",
                    Misfit::Short | Misfit::Narrow => "Redshift refuses the rows of some values",
                };
                format!("{column} is {live}, the schema has {wanted}: {consequence}.\n{RETYPE}")
            }
            What::Required => format!(
                "{column} is NOT NULL without a default, and no row brings a value for it: nothing can be loaded. \
                 Either the\nschema names it, or ALTER TABLE {table} DROP COLUMN {column};"
            ),
            What::NotNull => {
                format!(
                    "{column} is NOT NULL: Redshift refuses the rows of records that have no value for it."
                )
            }
            What::Unfilled => format!(
                "{column} has no default and stays NULL. Redshift gives none to a column it has: drop the column, and \
                 then\nrun `ingester ddl --diff` again."
            ),
            What::Unknown => format!(
                "{column} is not in the schema and stays NULL. If nothing else needs it:\nALTER TABLE {table} DROP \
                 COLUMN {column};"
            ),
        };
        self.comment(&comment);
    }

    pub(super) fn change(&mut self, change: &Change<'_>, stored: Stored) {
        let column = ident(change.column.name);
        let wanted = change.column.encoding.filter(|encoding| change.fits(*encoding));
        if stored == Stored::Unknown {
            if change.short || wanted.is_some() {
                self.comment(&format!(
                    "{column} leaves the sort key, and Redshift may change its encoding: run `ingester ddl --diff` again."
                ));
            }
            return;
        }
        let stored = if change.short { self.widen(change, stored, wanted) } else { stored };
        let Stored::As(encoding) = stored else { return };
        match wanted.filter(|wanted| *wanted != encoding) {
            Some(_) if self.interleaved => self.comment(&format!(
                "{column}: Redshift alters no encoding of a table with an interleaved sort key (redshift.sortkey)."
            )),
            Some(wanted) => self.alter_table(&format!("ALTER COLUMN {column} ENCODE {wanted}")),
            None => {}
        }
    }

    fn widen(&mut self, change: &Change<'_>, stored: Stored, wanted: Option<Encoding>) -> Stored {
        let column = ident(change.column.name);
        let live = change.live.map_or("", |live| live.type_text.as_str());
        self.comment(&format!("{column} is {live}. A type is altered outside of a transaction only."));
        if change.column.primary || change.live.is_some_and(|live| live.has_default) {
            self.comment("Redshift alters no type of a PRIMARY KEY or of a column with a default.");
            self.comment(RETYPE);
            return stored;
        }
        let after = match stored {
            Stored::As(fixed) if FIXED.contains(&fixed) && self.interleaved => {
                self.comment(&format!(
                    "Redshift alters no type of a column stored as {fixed}, and no encoding of a table with an \
                     interleaved\nsort key (redshift.sortkey)."
                ));
                return stored;
            }
            Stored::As(fixed) if FIXED.contains(&fixed) => {
                let open = wanted.filter(|wanted| !FIXED.contains(wanted)).unwrap_or(Encoding::Zstd);
                self.comment(&format!("Nor while the column is stored as {fixed}."));
                if wanted.is_none() {
                    self.comment(
                        "Another encoding ends ENCODE AUTO; ALTER TABLE … ALTER ENCODE AUTO gives it back.",
                    );
                }
                self.alter_table(&format!("ALTER COLUMN {column} ENCODE {open}"));
                Stored::As(open)
            }
            Stored::Unread => {
                self.comment("Nor while the column is stored as bytedict, runlength, text255 or text32k.");
                stored
            }
            _ => stored,
        };
        self.alter_table(&format!("ALTER COLUMN {column} TYPE {}", change.column.sql_type));
        after
    }

    pub(super) fn sortkey(&mut self, columns: &[String]) {
        self.comment("Redshift sorts the table anew, and stores the columns of the sort key uncompressed.");
        self.alter_table(&format!("ALTER COMPOUND SORTKEY ({})", idents(columns)));
        self.interleaved = false;
    }

    pub(super) fn distkey(&mut self, column: &str) {
        let name = ident(column);
        if self.interleaved {
            return self.comment(&format!(
                "{name}: Redshift alters no distribution key of a table with an interleaved sort key (redshift.sortkey)."
            ));
        }
        self.comment("Redshift distributes the rows of the table anew.");
        self.alter_table(&format!("ALTER DISTKEY {name}"));
    }
}

const RETYPE: &str = "Redshift alters no such type: add a column of another name, fill it by UPDATE, drop this one \
                      and rename the\nnew one; or take the table's type into the schema.";

impl Change<'_> {
    /// Whether Redshift takes the encoding for what the column is in the table.
    fn fits(&self, encoding: Encoding) -> bool {
        let sql_type = match self.live {
            Some(live) => live.type_text.parse::<SqlType>().ok(),
            None => Some(self.column.sql_type),
        };
        sql_type.is_some_and(|sql_type| encoding.fits(sql_type))
    }
}
