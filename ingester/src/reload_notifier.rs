//! Wakes what waits after a failure that a changed configuration may have mended. A wait is cut short by a reload that came
//! since the attempt before it began: that attempt knew the old values. A reload from before that attempt has nothing to do
//! with its failure.

use tokio::sync::watch;

/// Tells of reloads. Clones tell the same tasks.
#[derive(Debug, Clone)]
pub(crate) struct ReloadNotifier(watch::Sender<()>);

impl Default for ReloadNotifier {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl ReloadNotifier {
    /// A changed configuration is taken.
    pub(crate) fn taken(&self) {
        self.0.send_replace(());
    }

    pub(crate) fn listen(&self) -> ReloadListener {
        ReloadListener(self.0.subscribe())
    }
}

/// Hears of reloads for one task.
#[derive(Debug)]
pub(crate) struct ReloadListener(watch::Receiver<()>);

impl ReloadListener {
    /// Whether a reload came since the latest attempt began.
    pub(crate) fn has_come(&self) -> bool {
        self.0.has_changed().unwrap_or(false)
    }

    /// An attempt begins, with the values of now.
    pub(crate) fn attempt_begins(&mut self) {
        self.0.mark_unchanged();
    }

    /// Returns at a reload since the latest attempt began, or since the latest that was returned for.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could tell of one.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_reload_ends_the_wait_after_an_attempt_that_it_came_after_and_no_later_one() {
        let reloads = ReloadNotifier::default();
        let mut seen = reloads.listen();
        let mut ends = |begins: bool, reload: bool| {
            if begins {
                seen.attempt_begins();
                assert!(!seen.has_come());
            }
            if reload {
                reloads.taken();
                assert!(seen.has_come());
            }
            seen.next().now_or_never().is_some()
        };
        assert!(ends(false, true), "it waits");
        assert!(!ends(false, false), "one reload ends one wait");
        assert!(ends(true, true), "its attempt is under way, with the old values");
        reloads.taken();
        assert!(!ends(true, false), "its attempt had the new values");
        reloads.taken();
        drop(reloads);
        assert!(seen.next().now_or_never().is_some() && seen.next().now_or_never().is_none());
    }
}
