//! Each statement and comment of `ddl --diff` as text; `alter.rs` has their order.

use crate::redshift::ddl::live::Wanted;
use crate::redshift::ddl::{Difference, LiveColumn, What};
use shared::schema::{Encoding, SqlType};
use shared::sql::{TableName, ident};

/// The encodings under which Redshift changes no type.
const FIXED: [Encoding; 4] = [Encoding::Bytedict, Encoding::Runlength, Encoding::Text255, Encoding::Text32k];

/// What of a column of both sides may have to change, besides what a comment says.
pub(super) struct Change<'a> {
    pub(super) column: &'a Wanted<'a>,
    /// None: it was just added.
    pub(super) live: Option<&'a LiveColumn>,
    /// Its varchar is too short.
    pub(super) short: bool,
}

/// How a column is stored when its turn comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    As(Encoding),
    /// ALTER SORTKEY decided it.
    Unknown,
    /// The catalog could not be read, or says what is not known here.
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
    table: &'a TableName,
    pub(super) lines: Vec<String>,
}

impl<'a> Statements<'a> {
    pub(super) fn new(table: &'a TableName) -> Self {
        Self { table, lines: Vec::new() }
    }

    pub(super) fn say(&mut self, comment: &str) {
        self.lines.extend(comment.lines().map(|line| format!("-- {line}")));
    }

    fn send(&mut self, change: &str) {
        self.lines.push(format!("ALTER TABLE {} {change};", self.table));
    }

    pub(super) fn rename(&mut self, then: &str, now: &str) {
        let then = ident(then);
        self.say(&format!("Programs of versions that call it {then} load nothing from here on."));
        self.send(&format!("RENAME COLUMN {then} TO {}", ident(now)));
    }

    /// All but a varchar's length, which is part of a [`Change`].
    pub(super) fn column(&mut self, difference: &Difference) {
        let column = ident(&difference.column);
        match &difference.what {
            What::Missing { definition, .. } => self.send(&format!("ADD COLUMN {column} {definition}")),
            What::Short { .. } => {}
            What::Narrow { wanted, live } => self.say(&format!(
                "{column} is {live}, the schema has {wanted}: Redshift refuses the rows of some values.\n{RETYPE}"
            )),
            What::Altered { wanted, live } => self.say(&format!(
                "{column} is {live}, the schema has {wanted}: some values are altered.\n{RETYPE}"
            )),
            What::Other { wanted, live } => self.say(&format!(
                "{column} is {live}, the schema has {wanted}: Redshift refuses every value.\n{RETYPE}"
            )),
            What::Required => self.say(&format!(
                "{column} is NOT NULL without a default, and no row brings a value for it: nothing can be loaded. \
                 Either the\nschema names it, or ALTER TABLE {} DROP COLUMN {column};",
                self.table
            )),
            What::NotNull => self.say(&format!(
                "{column} is NOT NULL: Redshift refuses the rows of records that have no value for it."
            )),
            What::Unfilled => self.say(&format!(
                "{column} has no default and stays NULL. Redshift gives none to a column it has: drop the column, and \
                 then\nrun `ingester ddl --diff` again."
            )),
            What::Unknown => self.say(&format!(
                "{column} is not in the schema and stays NULL. If nothing else needs it:\nALTER TABLE {} DROP COLUMN \
                 {column};",
                self.table
            )),
        }
    }

    pub(super) fn change(&mut self, change: &Change<'_>, stored: Stored, interleaved: bool) {
        let column = ident(change.column.name);
        let wanted = change.column.encoding.filter(|encoding| change.fits(*encoding));
        if stored == Stored::Unknown {
            if change.short || wanted.is_some() {
                self.say(&format!(
                    "{column} leaves the sort key, and Redshift may change its encoding: run `ingester ddl --diff` again."
                ));
            }
            return;
        }
        let stored = if change.short { self.widen(change, stored, wanted, interleaved) } else { stored };
        let Stored::As(encoding) = stored else { return };
        match wanted.filter(|wanted| *wanted != encoding) {
            Some(_) if interleaved => self.say(&format!(
                "{column}: Redshift alters no encoding of a table with an interleaved sort key (redshift.sortkey)."
            )),
            Some(wanted) => self.send(&format!("ALTER COLUMN {column} ENCODE {wanted}")),
            None => {}
        }
    }

    /// Answers how the column is stored afterwards.
    fn widen(
        &mut self,
        change: &Change<'_>,
        stored: Stored,
        wanted: Option<Encoding>,
        interleaved: bool,
    ) -> Stored {
        let column = ident(change.column.name);
        let live = change.live.map_or("", |live| live.type_text.as_str());
        self.say(&format!("{column} is {live}. A type is altered outside of a transaction only."));
        if change.column.primary || change.live.is_some_and(|live| live.has_default) {
            self.say("Redshift alters no type of a PRIMARY KEY or of a column with a default.");
            self.say(RETYPE);
            return stored;
        }
        let after = match stored {
            Stored::As(fixed) if FIXED.contains(&fixed) && interleaved => {
                self.say(&format!(
                    "Redshift alters no type of a column stored as {fixed}, and no encoding of a table with an \
                     interleaved\nsort key (redshift.sortkey)."
                ));
                return stored;
            }
            Stored::As(fixed) if FIXED.contains(&fixed) => {
                let open = wanted.filter(|wanted| !FIXED.contains(wanted)).unwrap_or(Encoding::Zstd);
                self.say(&format!("Nor while the column is stored as {fixed}."));
                if wanted.is_none() {
                    self.say(
                        "Another encoding ends ENCODE AUTO; ALTER TABLE … ALTER ENCODE AUTO gives it back.",
                    );
                }
                self.send(&format!("ALTER COLUMN {column} ENCODE {open}"));
                Stored::As(open)
            }
            Stored::Unread => {
                self.say("Nor while the column is stored as bytedict, runlength, text255 or text32k.");
                stored
            }
            _ => stored,
        };
        self.send(&format!("ALTER COLUMN {column} TYPE {}", change.column.sql_type));
        after
    }

    pub(super) fn sortkey(&mut self, columns: &[String]) {
        let names: Vec<String> = columns.iter().map(|column| ident(column)).collect();
        self.say("Redshift sorts the table anew, and stores the columns of the sort key uncompressed.");
        self.send(&format!("ALTER COMPOUND SORTKEY ({})", names.join(", ")));
    }

    pub(super) fn distkey(&mut self, column: &str, interleaved: bool) {
        let name = ident(column);
        if interleaved {
            return self.say(&format!(
                "{name}: Redshift alters no distribution key of a table with an interleaved sort key (redshift.sortkey)."
            ));
        }
        self.say("Redshift distributes the rows of the table anew.");
        self.send(&format!("ALTER DISTKEY {name}"));
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
