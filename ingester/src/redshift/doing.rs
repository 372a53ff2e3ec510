//! What a statement, or a few of them, are for. It stands at the head of each failure's reason, and what Redshift's errors
//! mean depends on it ([`crate::redshift::errors::judge_at`]): by the variant, never by its text.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Connect,
    EndEarlierSession,
    ReadColumns,
    Alter,
    /// COMMIT of columns that were added. Without an answer the catalog tells.
    CommitColumns,
    CheckTable,
    CheckLedger,
    FindLockTable,
    ReadLedger,
    WriteLedger,
    TrimLedger,
    ReadMark,
    MakeMark,
    ChangeMark,
    LimitLock,
    Begin,
    Lock,
    LimitStatements,
    Copy,
    CopyNoLoad,
    CopyToRollBack,
    Count,
    AskQueryId,
    MakeStage,
    NameStage,
    ReadStageTimes,
    CompareStage,
    InsertStage,
    Forget,
    DropStage,
    Commit,
    /// COMMIT was sent, and the connection was lost before its answer.
    AwaitCommit,
}

impl Doing {
    /// Whether its statements read or write the ledger and nothing else.
    pub(super) fn is_at_ledger(self) -> bool {
        matches!(
            self,
            Self::CheckLedger
                | Self::ReadLedger
                | Self::WriteLedger
                | Self::TrimLedger
                | Self::ReadMark
                | Self::MakeMark
                | Self::ChangeMark
        )
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting to Redshift",
            Self::EndEarlierSession => "ending an earlier session",
            Self::ReadColumns => "looking at the columns of the table",
            Self::Alter => "ALTER TABLE",
            Self::CommitColumns => "COMMIT of the columns that were added",
            Self::CheckTable => "the table",
            Self::CheckLedger => "the ledger",
            Self::FindLockTable => "looking for the table of the lock",
            Self::ReadLedger => "reading the ledger",
            Self::WriteLedger => "writing the ledger",
            Self::TrimLedger => "trimming the ledger",
            Self::ReadMark => "reading the mark of the ledger",
            Self::MakeMark => "making the mark of the ledger",
            Self::ChangeMark => "changing the mark of the ledger",
            Self::LimitLock => "limiting the LOCK",
            Self::Begin => "BEGIN",
            Self::Lock => "LOCK",
            Self::LimitStatements => "limiting statements",
            Self::Copy => "COPY",
            Self::CopyNoLoad => "COPY … NOLOAD",
            Self::CopyToRollBack => "COPY, to be rolled back",
            Self::Count => "counting",
            Self::AskQueryId => "asking for the query id",
            Self::MakeStage => "CREATE TEMP TABLE",
            Self::NameStage => "naming a stage",
            Self::ReadStageTimes => "asking for the times of the rows",
            Self::CompareStage => "comparing with the table",
            Self::Forget => "deleting rows that are to be forgotten",
            Self::InsertStage => "INSERT of the rows that are new",
            Self::DropStage => "DROP",
            Self::Commit => "COMMIT",
            Self::AwaitCommit => "COMMIT was sent and not answered, the ledger will tell",
        })
    }
}
