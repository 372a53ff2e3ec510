//! The ways to protect a value, by the lists of `[protect]`.

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Drop,
    MaskIp,
    MaskEmail,
    MaskQuery,
    MaskParameters,
    Pseudonym,
}

impl How {
    const ALL: [Self; 6] =
        [Self::Drop, Self::MaskIp, Self::MaskEmail, Self::MaskQuery, Self::MaskParameters, Self::Pseudonym];

    /// The list of `[protect]`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::MaskIp => "mask_ip",
            Self::MaskEmail => "mask_email",
            Self::MaskQuery => "mask_query",
            Self::MaskParameters => "mask_parameters",
            Self::Pseudonym => "pseudonym",
        }
    }

    pub(super) fn of_list(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|how| how.name() == name)
    }
}
