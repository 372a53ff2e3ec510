//! `producer schema`: the schema in force, what it makes of a record, which fields the stream brings, and a schema for these.
//! In: the configuration; a record or a file of records; the producer that runs. Out: tables, JSON, a schema file. Writes
//! nothing else.

mod command;
mod explain;
mod seen;
mod suggest;
mod protected;
mod saving;
mod file;
mod columns;
mod table;

pub(crate) use command::Asked;
