//! Ends orphan sessions: sessions of this ingester that it gave up without an orderly end. Redshift may not notice, and
//! keep their transaction, and with it the lock, for hours. The next session ends such a session if nothing else can be
//! mistaken for it: process numbers come again, so a session is known by its number and its start.

use state::loads::RedshiftSession;

use crate::redshift::answer::{Rows, SqlFailure};
use crate::redshift::server::{PID, Server, read_view};
use crate::redshift::sql::literal;

/// A view of sessions: its name, and those of its columns. Ordinary users see their own.
struct Sessions {
    view: &'static str,
    pid: &'static str,
    began: &'static str,
    more: &'static str,
}

/// Provisioned clusters have the first, serverless workgroups the second only, which has sessions that ended too.
const VIEWS: [Sessions; 2] = [
    Sessions { view: "stv_sessions", pid: "process", began: "starttime", more: "" },
    Sessions {
        view: "sys_session_history",
        pid: "session_id",
        began: "start_time",
        more: " AND status = 'active'",
    },
];

impl Sessions {
    fn began(&self, pid: i64) -> String {
        let Self { view, pid: column, began, more } = self;
        format!("SELECT {began} FROM {view} WHERE {column} = {pid}{more}")
    }

    /// A session, if it is still the one that began then.
    fn same(&self, session: &RedshiftSession) -> String {
        format!("{} AND {} = {}", self.began(session.pid), self.began, literal(&session.began))
    }
}

/// What this session will be known by; None if Redshift does not tell.
pub(crate) async fn identify(server: &impl Server) -> Option<RedshiftSession> {
    let pid = read_view(server, "pg_backend_pid()", PID).await?.first().get(0)?;
    for view in &VIEWS {
        let rows = read_view(server, view.view, &view.began(pid)).await;
        if let Some(began) = rows.as_ref().and_then(Rows::single) {
            return Some(RedshiftSession { pid, began: began.to_owned() });
        }
    }
    None
}

/// Ends that session, if it is still there. If it cannot be found or ended, the LOCK waits for it as for any other.
/// Fails only when the connection is gone.
pub(crate) async fn end(server: &impl Server, session: &RedshiftSession) -> Result<(), SqlFailure> {
    for view in &VIEWS {
        match server.run(&view.same(session)).await {
            Ok(rows) if rows.0.is_empty() => {}
            Ok(_) => return terminate(server, session).await,
            Err(lost @ SqlFailure::Lost(_)) => return Err(lost),
            Err(error) => tracing::debug!(%error, view = view.view, "cannot read the view of sessions"),
        }
    }
    Ok(())
}

async fn terminate(
    server: &impl Server,
    RedshiftSession { pid, began }: &RedshiftSession,
) -> Result<(), SqlFailure> {
    let ended = "an earlier session of this ingester had not ended at Redshift: it was ended, so that it holds no lock";
    match server.run(&format!("SELECT pg_terminate_backend({pid})")).await {
        Ok(_) => tracing::warn!(pid, began, "{ended}"),
        Err(lost @ SqlFailure::Lost(_)) => return Err(lost),
        Err(error) => tracing::warn!(pid, %error, "an earlier session of this ingester could not be ended"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::server::script::Script;

    fn session() -> RedshiftSession {
        RedshiftSession { pid: 4711, began: "2026-01-02 03:04:05.678901".to_owned() }
    }

    #[tokio::test]
    async fn a_session_is_known_by_number_and_beginning() {
        let row: &[Option<&str>] = &[Some("2026-01-02 03:04:05.678901")];
        let script = Script::default().answer(PID, &[&[Some("4711")]]).answer("stv_sessions", &[row]);
        assert_eq!(identify(&script).await, Some(session()));
        let serverless = Script::default()
            .answer(PID, &[&[Some("4711")]])
            .refuse("stv_sessions", "relation does not exist")
            .answer("sys_session_history", &[row]);
        assert_eq!(identify(&serverless).await, Some(session()));
        assert_eq!(identify(&Script::default().answer(PID, &[&[Some("4711")]])).await, None);
    }

    #[tokio::test]
    async fn only_the_very_session_is_ended() {
        let there = Script::default().answer("stv_sessions", &[&[Some("x")]]);
        end(&there, &session()).await.unwrap();
        let sent = there.sent();
        assert_eq!(
            sent,
            [
                "SELECT starttime FROM stv_sessions WHERE process = 4711 AND starttime = '2026-01-02 03:04:05.678901'",
                "SELECT pg_terminate_backend(4711)"
            ]
        );
        let gone = Script::default();
        end(&gone, &session()).await.unwrap();
        assert!(gone.sent().iter().all(|sql| !sql.contains("terminate")));
    }
}
