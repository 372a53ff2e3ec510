//! What all rows of a batch have in common. It changes when a running producer takes another schema, or pseudonyms of another
//! key or spelling; then the open file and the filling batch end, as at a start with such a change.

use shared::schema::Schema;

use crate::log::columns;
use crate::log::settings::Settings;
use crate::store::{Change, Store, StoreError};

/// The form of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// The fingerprint of their schema.
    pub schema: String,
    /// Its columns, which go into seals.
    pub columns: Vec<String>,
    /// The id of the key of the pseudonyms in them; none without any.
    pub pseudonym_key: Option<String>,
    /// How these pseudonyms are spelled, and how long they are; none without any.
    pub pseudonym_spelling: Option<String>,
}

impl Form {
    /// Rows of this schema, without pseudonyms.
    pub fn of(schema: &Schema) -> Self {
        let columns = schema.in_row().map(|column| column.name.clone()).collect();
        Self { schema: schema.fingerprint(), columns, pseudonym_key: None, pseudonym_spelling: None }
    }

    /// Whether a batch that these settings began takes such rows. The columns follow from the fingerprint.
    pub(super) fn fits(&self, settings: &Settings) -> bool {
        self.schema == settings.schema
            && self.pseudonym_key == settings.pseudonym_key
            && self.pseudonym_spelling == settings.pseudonym_spelling
    }

    /// What begins from now on is of this form. `change` keeps the names of its columns, which the seal of the batch needs.
    pub(super) fn begin(
        &self,
        store: &Store,
        settings: &mut Settings,
        change: &mut Change,
    ) -> Result<(), StoreError> {
        columns::keep(store, &self.schema, &self.columns, change)?;
        let Self { schema, columns, .. } = self.clone();
        *settings = Settings { schema, columns, ..settings.clone() }.with_pseudonyms_of(self);
        Ok(())
    }
}

impl Settings {
    /// With the pseudonyms that rows of this form have.
    #[must_use]
    pub fn with_pseudonyms_of(self, form: &Form) -> Self {
        let (pseudonym_key, pseudonym_spelling) =
            (form.pseudonym_key.clone(), form.pseudonym_spelling.clone());
        Self { pseudonym_key, pseudonym_spelling, ..self }
    }
}
