use shared::content::Content;
use shared::ids::RunId;
use shared::seal::Compared;

use shared::layout::Compression;

use super::*;
use crate::facts::folder::tests::seal;
use crate::failure::Scope;
use crate::redshift::ledger_lookup::derived_id;
use crate::redshift::server::script::Script;
use crate::redshift::target::MARK;
use crate::redshift::target::tests::target;

const EARLY: &str = "1970-01-01 00:00:00";
const LOOK: &str = "SELECT batch_id, content";
const RANGE: &str = "UNION ALL";
const COUNT: &str = "pg_last_copy_count";
const LEFT: &str = "SELECT count(*)";

/// A batch of a run, with 20 rows of one minute.
fn batch(run: RunId, number: u64) -> Seal {
    let compared = Some(Compared { run, number, known: Vec::new(), uncompared: 0 });
    let content = Some(Content::of_rows(number.to_string().as_bytes()));
    let first_received = Some("2026-01-02T03:04:05Z".parse().unwrap());
    Seal { compared, content, first_received, ..seal() }
}

fn loading(seals: &[&Seal]) -> Loading {
    let parts = seals.iter().map(|seal| Part::whole((*seal).clone())).collect();
    Loading { manifest: "m.json".to_owned(), compression: Compression::Zstd, parts }
}

/// A ledger that speaks for everything, and counts.
fn server(copied: &'static str) -> Script {
    let mark: &[Option<&str>] = &[Some(MARK), None, None, Some(EARLY), None, Some("0")];
    Script::default().answer(RANGE, &[mark]).answer(COUNT, &[&[Some(copied)]])
}

async fn done(script: &Script, seals: &[&Seal]) -> Loaded {
    transaction(script, &target(), &loading(seals)).await.unwrap()
}

fn row<'a>(id: &'a str, content: &'a str) -> [Option<&'a str>; 7] {
    [Some(id), Some(content), Some("20"), Some("0"), Some("200"), None, None]
}

#[tokio::test]
async fn nothing_is_looked_at_before_the_lock() {
    let script = server("20");
    done(&script, &[&batch(RunId::new(), 1)]).await;
    let verbs = script.verbs();
    assert_eq!(verbs, ["BEGIN", "LOCK", "SELECT", "SELECT", "COPY", "SELECT", "INSERT", "COMMIT"]);
}

#[tokio::test]
async fn batches_that_are_known_to_be_apart_are_loaded_by_one_plain_copy() {
    let run = RunId::new();
    let (one, two) = (batch(run, 1), batch(run, 2));
    let script = server("40");
    let Loaded::Batches(loaded) = done(&script, &[&one, &two]).await else { panic!() };
    assert!(loaded.iter().all(|one| one.how == How::Applied && one.known == 0 && one.staged.is_none()));
    assert_eq!(loaded.iter().map(|one| one.entered).collect::<Vec<_>>(), [one.batch, two.batch]);
    let sent = script.sent();
    assert!(sent.iter().any(|sql| sql.starts_with("COPY \"public\".\"hits\" ")), "{sent:?}");
    assert!(!sent.iter().any(|sql| sql.contains("TEMP")), "{sent:?}");
}

#[tokio::test]
async fn a_batch_that_may_have_rows_of_the_table_goes_beside_it_and_counts_what_was_there() {
    let seal = batch(RunId::new(), 1);
    let mark: &[Option<&str>] = &[Some(MARK), None, None, Some(EARLY), None, Some("0")];
    let other: &[Option<&str>] = &[
        Some("0198c5a2-7d10-7cc0-8e1f-3f5d0a1b2c3d"),
        Some("3"),
        None,
        Some(EARLY),
        Some("2026-02-01 00:00:00"),
    ];
    let other = [other, &[Some("1")]].concat();
    let script = Script::default()
        .answer(RANGE, &[mark, &other])
        .answer(COUNT, &[&[Some("20")]])
        .answer("SELECT min(", &[&[Some(EARLY), Some(EARLY)]])
        .answer(LEFT, &[&[Some("15")]]);
    let Loaded::Batches(loaded) = done(&script, &[&seal]).await else { panic!() };
    assert_eq!((loaded[0].known, loaded[0].entered), (5, seal.batch));
    assert!(matches!(loaded[0].staged, Some(StageReason::Overlaps(Some(_)))), "{loaded:?}");
    let (verbs, sent) = (script.verbs(), script.sent());
    let staged =
        ["CREATE", "COPY", "SELECT", "SELECT", "DELETE", "SELECT", "INSERT", "DROP", "INSERT", "COMMIT"];
    assert_eq!(verbs[4..], staged, "{sent:?}");
    let ledger = &sent[sent.len() - 2];
    assert!(
        ledger.contains(&format!("('{}', 'web-1', 15, 0, ", seal.batch)) && ledger.ends_with(", 5, 0, 0)"),
        "{ledger}"
    );
}

#[tokio::test]
async fn a_batch_is_loaded_into_the_columns_that_its_seal_names_on_both_ways() {
    let named = ["received", "hitidlow", "hitidhigh", "plugins"].map(str::to_owned).to_vec();
    let seal = Seal { columns: Some(named), schema: "ffff".to_owned(), ..batch(RunId::new(), 1) };
    let list = "(\"received\", \"hitidlow\", \"hitidhigh\", \"plugins\")";
    let plain = server("20");
    done(&plain, &[&seal]).await;
    let copy = |script: &Script| script.sent().into_iter().find(|sql| sql.starts_with("COPY")).unwrap();
    assert!(copy(&plain).starts_with(&format!("COPY \"public\".\"hits\" {list}")), "{}", copy(&plain));

    let uncompared = Seal { compared: None, ..seal };
    let staged =
        server("20").answer("SELECT min(", &[&[Some(EARLY), Some(EARLY)]]).answer(LEFT, &[&[Some("20")]]);
    done(&staged, &[&uncompared]).await;
    assert!(copy(&staged).contains(list), "{}", copy(&staged));
    let insert = format!("INSERT INTO \"public\".\"hits\" {list}");
    assert!(staged.sent().iter().any(|sql| sql.starts_with(&insert)), "{:?}", staged.sent());

    // Without the columns that hits are compared by, one that need not be compared is loaded as it is.
    let bare = Seal { columns: Some(vec!["plugins".to_owned()]), ..batch(RunId::new(), 1) };
    let script = server("20");
    done(&script, &[&bare]).await;
    assert!(copy(&script).contains("\"hits\" (\"plugins\") FROM"), "{}", copy(&script));
}

#[tokio::test]
async fn a_batch_that_must_be_compared_and_cannot_be_is_not_loaded() {
    let columns = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let own = target();
    let by = own.comparable().unwrap();
    let refused = async |seal: &Seal, script: &Script| {
        let failed = transaction(script, &own, &loading(&[seal])).await.unwrap_err();
        let Aborted::Load(failure) = failed else { panic!("{failed:?}") };
        assert_eq!((failure.class, failure.scope), (ErrorClass::Configuration, Scope::Batch));
        assert!(failure.why.contains(&seal.batch.to_string()), "{failure}");
        assert!(failure.advice.contains("an ingester whose [schema]"), "{failure}");
        let verbs = script.verbs();
        assert!(!verbs.iter().any(|verb| ["COPY", "INSERT", "COMMIT"].contains(&verb.as_str())), "{verbs:?}");
        failure.why
    };
    // Its schema has one half of the hit id under another name.
    let named = columns(&[by.received, by.low, "hit_high", "plugins"]);
    let renamed = Seal { columns: named, compared: None, ..batch(RunId::new(), 1) };
    let why = refused(&renamed, &server("20")).await;
    assert!(why.contains("does not say what its rows were compared with"), "{why}");
    assert!(why.contains(&format!("does not name the column {} by which", by.high)), "{why}");
    let bare = Seal { columns: columns(&["plugins"]), ..renamed.clone() };
    let why = refused(&bare, &server("20")).await;
    assert!(why.contains(&[by.high, by.low, by.received].join(", ")), "{why}");
    // The ledger has another batch under its id.
    let other = Seal { compared: batch(RunId::new(), 2).compared, ..bare.clone() };
    let (id, content) = (other.batch.to_string(), Content::of_rows(b"other").to_string());
    let why = refused(&other, &server("20").answer(LOOK, &[&row(&id, &content)])).await;
    assert!(why.contains("another batch under its id"), "{why}");

    // Together with others it is set apart, and they are loaded.
    let fine = Seal { columns: bare.columns.clone(), ..batch(RunId::new(), 1) };
    let isolated = done(&server("40"), &[&fine, &bare]).await;
    assert_eq!(isolated, Loaded::Isolated(vec![(bare.batch, StageReason::NotCompared)]));

    // Where this ingester's own schema cannot compare, nothing is compared.
    let own = Target { key_columns: crate::redshift::table_counts::KeyColumns::default(), ..target() };
    let loaded = transaction(&server("20"), &own, &loading(&[&bare])).await.unwrap();
    assert!(matches!(loaded, Loaded::Batches(loaded) if loaded[0].staged.is_none()));
}

#[tokio::test]
async fn of_several_those_that_must_go_beside_the_table_go_alone() {
    let run = RunId::new();
    let (one, two) = (batch(run, 1), Seal { compared: None, ..batch(run, 2) });
    let script = server("40");
    let Loaded::Isolated(isolated) = done(&script, &[&one, &two]).await else { panic!() };
    assert_eq!(isolated, [(two.batch, StageReason::NotCompared)]);
    assert_eq!(script.verbs(), ["BEGIN", "LOCK", "SELECT", "SELECT", "ROLLBACK"]);
}

#[tokio::test]
async fn what_is_in_the_ledger_is_told_and_nothing_is_loaded() {
    let run = RunId::new();
    let (one, two) = (batch(run, 1), batch(run, 2));
    let (id, content) = (one.batch.to_string(), one.content.unwrap().to_string());
    let mut entered = row(&id, &content);
    entered[3] = Some("4");
    let script = server("40").answer(LOOK, &[&entered]);
    let Loaded::Batches(loaded) = done(&script, &[&one, &two]).await else { panic!() };
    assert_eq!(loaded, [LoadedBatch::before(one.batch, one.batch, 4)]);
    assert_eq!(script.verbs(), ["BEGIN", "LOCK", "SELECT", "ROLLBACK"]);
}

#[tokio::test]
async fn another_batch_of_the_same_id_is_entered_under_an_id_of_its_own() {
    let (one, other) = (batch(RunId::new(), 1), batch(RunId::new(), 2));
    let other = Seal { batch: one.batch, ..other };
    let (id, content) = (one.batch.to_string(), one.content.unwrap().to_string());
    let there = row(&id, &content);
    let script = server("20").answer(LOOK, &[&there]).answer(LEFT, &[&[Some("20")]]);
    let Loaded::Batches(loaded) = done(&script, &[&other]).await else { panic!() };
    let entered = derived_id(&other);
    assert_eq!((loaded[0].batch, loaded[0].entered), (one.batch, entered));
    assert_eq!(loaded[0].staged, Some(StageReason::OtherContent));
    assert!(script.sent().iter().any(|sql| sql.contains(&format!("('{entered}', 'web-1', 20, "))));
    // Rows in quarantine are named after the id: it must not change under them.
    let cut = Part { quarantined: 1, set: Some("a".to_owned()), ..Part::whole(other.clone()) };
    let loading = Loading { parts: vec![cut], ..loading(&[&other]) };
    let script = server("19").answer(LOOK, &[&there]);
    let failed = transaction(&script, &target(), &loading).await.unwrap_err();
    assert!(matches!(failed, Aborted::Load(failure) if failure.class == ErrorClass::Passing));
    assert!(!script.verbs().contains(&"INSERT".to_owned()));
}

#[tokio::test]
async fn without_columns_to_compare_every_batch_is_loaded_as_it_is() {
    let target = Target { key_columns: crate::redshift::table_counts::KeyColumns::default(), ..target() };
    let seal = Seal { compared: None, ..batch(RunId::new(), 1) };
    let script = Script::default().answer(COUNT, &[&[Some("20")]]);
    let loaded = transaction(&script, &target, &loading(&[&seal])).await.unwrap();
    assert!(matches!(loaded, Loaded::Batches(loaded) if loaded[0].staged.is_none()));
    assert_eq!(script.verbs(), ["BEGIN", "LOCK", "SELECT", "COPY", "SELECT", "INSERT", "COMMIT"]);
}

#[tokio::test]
async fn another_number_of_rows_than_was_sealed_is_not_committed() {
    let script = server("19");
    let failed = transaction(&script, &target(), &loading(&[&batch(RunId::new(), 1)])).await.unwrap_err();
    assert!(matches!(failed, Aborted::Count { copied, query: None } if copied == "19"));
    assert!(!script.verbs().contains(&"COMMIT".to_owned()));
}
