//! The table lacks columns of the schema, and the ingester adds them while it runs: whatever cuts it, however many do it at
//! once. An operator does the same with `ingester ddl --apply`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use redshift::OrphanEnd::{Commit, Rollback};
use redshift::{Fault, Kind, OrphanEnd, Seen};
use sandbox::config::Shape;
use sandbox::judge::LEDGER;
use sandbox::service;

use crate::columns::{ADDED, published_under_two_schemas};
use crate::schema::send;
use crate::world::{STOP, World, assert_clean, options};

const SHAPE: Shape = Shape {
    max_file_age: "500ms",
    max_batch_age: "1s",
    records_per_file: 100,
    files_per_batch: 2,
    compression: "zstd",
};
/// Columns that the second schema adds: three transactions of twenty at most.
const NEW: u64 = 45;
const HITS: u64 = 600;
const ADDS: &str = "[redshift]\non_schema_change = \"add_columns\"\n";
/// What the first schema has of events. PostgreSQL counts columns that were dropped, too.
const EVENTS: &str = "events = \"1..10\"\n";
const SHORT: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(60);

/// Tables of the first schema.
async fn first_schema() -> World {
    let small = |text: &str| format!("{text}\n[schema]\n{EVENTS}");
    World::altered(options(HITS), &SHAPE, small, None).await
}

/// Gives both services the second schema: copies of the hit id, of the page and of a time.
fn change_schema(world: &World) {
    let file = world.path("second.toml");
    let mut columns = String::from("mode = \"extend\"\n");
    for (name, path, kind, sql_type) in (1..=NEW - 2)
        .map(|n| (format!("copy_{n}"), "hitIdLow", "unsigned", "decimal(20,0)"))
        .chain([("copy_page".to_owned(), "pageName", "text", "varchar(255)")])
        .chain([("copy_time".to_owned(), "receivedTimeGMT", "timestamp", "timestamp")])
    {
        columns += &format!(
            "[[column]]\nname = \"{name}\"\npath = \"{path}\"\nkind = \"{kind}\"\ntype = \"{sql_type}\"\n"
        );
    }
    fs::write(&file, columns).unwrap();
    world.configure(EVENTS, &format!("{EVENTS}file = \"{}\"\n", file.display()));
}

fn add_columns(world: &World) {
    world.configure("[redshift]\n", ADDS);
}

/// Columns of the second schema that the table has, by PostgreSQL; what the stand-in's own catalog shows agrees.
async fn new_columns(world: &World) -> u64 {
    let of = |catalog: &str| {
        format!(
            "(SELECT count(*) FROM {catalog} WHERE table_name = 'livestream' AND column_name LIKE 'copy#_%' ESCAPE '#')"
        )
    };
    // One statement sees one moment.
    let both = format!("SELECT {}, {}", of("information_schema.columns"), of("standin.columns"));
    let row = world.judge.query_one(&both, &[]).await.unwrap();
    let (there, shown): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(there, shown);
    u64::try_from(there).unwrap()
}

async fn drop_new_columns(world: &World) {
    let names = (1..=NEW - 2).map(|n| n.to_string()).chain(["page".to_owned(), "time".to_owned()]);
    let drops = names.map(|name| format!("ALTER TABLE public.livestream DROP COLUMN copy_{name};\n"));
    send(world, &drops.collect::<String>()).await;
}

/// The statements that add a column, so far.
fn adding(world: &World) -> Vec<Seen> {
    let seen = world.standins.redshift.faults().statements();
    seen.into_iter().filter(|seen| seen.sql.contains("ADD COLUMN")).collect()
}

/// Each statement adds one column, in a transaction that began with both locks and read the catalog under them.
fn assert_under_the_lock(world: &World) {
    let seen = world.standins.redshift.faults().statements();
    for added in seen.iter().filter(|seen| seen.sql.contains("ADD COLUMN")) {
        assert_eq!(added.sql.matches(" COLUMN ").count(), 1, "{}", added.sql);
        let before = seen.iter().filter(|seen| seen.pid == added.pid && seen.at <= added.at);
        let before: Vec<&str> = before.map(|seen| seen.sql.as_str()).collect();
        let began = before.iter().rposition(|sql| *sql == "BEGIN").expect("it is in a transaction");
        assert_eq!(
            before[began + 1],
            "LOCK \"public\".\"livestream_ledger_lock\", \"public\".\"livestream\""
        );
        let read = before[began..].iter().position(|sql| sql.contains("svv_columns")).unwrap();
        assert_eq!(before[began..].iter().position(|sql| sql.contains("ADD COLUMN")), Some(read + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_both_schemas_are_loaded_side_by_side_once_the_column_is_added() {
    let changed = published_under_two_schemas().await;
    let world = &changed.world;
    add_columns(world);
    let (old, new) = (changed.sealed(0), changed.sealed(1));
    assert!(old > 0 && new > 0, "{old} {new}");
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    // Rows of the older schema have no value in the new column, and every other cell is as it was sent.
    changed.assert_complete().await;
    assert_eq!(adding(world).len(), 1, "{:?}", adding(world));
    assert_under_the_lock(world);
    let said = ingester.said();
    assert!(said.contains("a column of the schema was added to the table"), "{said}");
    assert!(said.contains(&format!("{ADDED} decimal(20,0)")), "{said}");
    // What the schema lacks stays: nothing is dropped.
    assert!(world.count("count(evar200) FROM public.livestream").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_schema_that_the_ingester_does_not_have_waits_alone_for_a_restart_with_it() {
    let changed = published_under_two_schemas().await;
    let world = &changed.world;
    add_columns(world);
    let first = fs::read_to_string(&changed.first).unwrap();
    fs::write(&changed.first, first.replace("[redshift]\n", ADDS)).unwrap();
    let (old, new) = (changed.sealed(0), changed.sealed(1));
    let mut ingester = changed.start_first();
    world.until_loaded(old, &mut [&mut ingester]).await;
    let told = async || ingester.said().contains(&format!("has no column {ADDED}"));
    world.until("the column is named", &mut [], told).await;
    let said = ingester.said();
    assert!(
        said.contains("restart or reload this ingester with the [schema] that the rows were made for"),
        "{said}"
    );
    assert!(!said.contains("loading is held up") && adding(world).is_empty(), "{said}");
    assert_eq!(world.loaded().await, old);
    ingester.stop(STOP).await.unwrap();
    let mut ingester = world.start("ingester");
    world.until_loaded(old + new, &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    changed.assert_complete().await;
}

/// What cuts the adding, and how many statements that add a column are sent in all.
struct Cut {
    /// The statement: of those with this text, so many come first.
    at: (u32, &'static str),
    fault: Fault,
    statements: u64,
}

fn at_column(nth: u32, fault: Fault, statements: u64) -> Cut {
    Cut { at: (nth, "ADD COLUMN"), fault, statements }
}

/// At the end of the first transaction.
fn at_commit(fault: Fault, statements: u64) -> Cut {
    Cut { at: (1, "COMMIT"), fault, statements }
}

fn killed(kind: Kind, applied: bool, orphan: Option<(Duration, OrphanEnd)>) -> Fault {
    Fault::Hold { kind, applied, orphan }
}

/// Adds the columns while it is cut so.
async fn settles(world: &World, Cut { at: (nth, text), fault, statements }: Cut) {
    let told = format!("{fault:?} at {nth} of {text}");
    println!("{told}");
    if new_columns(world).await > 0 {
        drop_new_columns(world).await;
    }
    let faults = world.standins.redshift.faults();
    faults.forget_statements();
    let kill = matches!(fault, Fault::Hold { .. });
    faults.push_at(nth, text, fault);
    let mut ingester = world.start("ingester");
    if kill {
        tokio::time::timeout(PATIENCE, faults.until_held()).await.expect("it never came there");
        ingester.kill().unwrap();
        ingester.start_again().unwrap();
    }
    let said = async || ingester.said();
    let begun = said().await.len();
    let connected = async || said().await[begun..].contains("connected to Redshift");
    if kill {
        world.until("it is connected", &mut [], connected).await;
    }
    world.until("the columns are there", &mut [], async || new_columns(world).await == NEW).await;
    ingester.stop(STOP).await.unwrap();
    assert_eq!(faults.pending(), 0, "{told}: it never struck");
    assert_eq!(adding(world).len() as u64, statements, "{told}: statements that add a column");
    assert_under_the_lock(world);
    let said = ingester.said();
    assert!(!said.contains("already exists") && !said.contains("loading is held up"), "{told}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_columns_ends_well_wherever_it_is_cut() {
    let world = first_schema().await;
    world.publish().await;
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    change_schema(&world);
    add_columns(&world);
    let ways = world.standins.redshift.ways();
    for orphans_are_waited_for in [true, false] {
        ways.set_session_tables_forbidden(orphans_are_waited_for);
        // What an orphan commits stays; one that is ended commits nothing.
        let by_orphan = if orphans_are_waited_for { NEW } else { NEW + 20 };
        let hold = if orphans_are_waited_for { SHORT } else { HOUR };
        settles(&world, at_commit(Fault::Orphan { kind: Kind::Commit, hold, end: Commit }, by_orphan)).await;
        let orphan = Some((hold, Commit));
        settles(&world, at_commit(killed(Kind::Commit, false, orphan), by_orphan)).await;
        let rolled_back = Fault::Orphan { kind: Kind::Ddl, hold, end: Rollback };
        settles(&world, at_column(3, rolled_back, NEW + 3)).await;
    }
    for cut in [
        // The connection is lost, and what became of the statement is not known.
        at_column(3, Fault::Refused(Kind::Ddl), NEW + 3),
        at_column(3, Fault::AppliedThenLost(Kind::Ddl), NEW + 3),
        at_column(25, Fault::AppliedThenLost(Kind::Ddl), NEW + 5),
        at_commit(Fault::Refused(Kind::Commit), NEW + 20),
        at_commit(Fault::AppliedThenLost(Kind::Commit), NEW),
        // The process is killed.
        at_column(1, killed(Kind::Ddl, false, None), NEW + 1),
        at_column(3, killed(Kind::Ddl, true, None), NEW + 3),
        at_column(25, killed(Kind::Ddl, true, None), NEW + 5),
        at_commit(killed(Kind::Commit, false, None), NEW + 20),
        at_commit(killed(Kind::Commit, true, None), NEW),
    ] {
        settles(&world, cut).await;
    }
    // What was loaded before is as it was, and has no values in the new columns.
    assert_clean(&world.verdict().await);
    assert_eq!(world.count("count(copy_1) FROM public.livestream").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ingesters_at_once_add_each_column_once() {
    let world = first_schema().await;
    change_schema(&world);
    add_columns(&world);
    world.publish().await;
    let faults = world.standins.redshift.faults();
    // Long enough for the other to come to the same columns meanwhile.
    for _ in 0..NEW {
        faults.push(Fault::Slow(Kind::Ddl, Duration::from_millis(40)));
    }
    let (mut one, mut other) = (world.start_ingester("ingester-1"), world.start_ingester("ingester-2"));
    world.until_loaded(world.wanted(), &mut [&mut one, &mut other]).await;
    let connected = async || [&one, &other].iter().all(|one| one.said().contains("connected to Redshift"));
    world.until("both are connected", &mut [], connected).await;
    for ingester in [&mut one, &mut other] {
        ingester.stop(STOP).await.unwrap();
        let said = ingester.said();
        assert!(!said.contains("already exists") && !said.contains("loading is held up"), "{said}");
    }
    assert_eq!(adding(&world).len() as u64, NEW);
    assert_eq!(new_columns(&world).await, NEW);
    assert_under_the_lock(&world);
    assert_eq!(faults.conflicts(), 0);
    assert_clean(&world.verdict().await);
    let wrong = "count(*) FROM public.livestream WHERE copy_1 IS DISTINCT FROM hitidlow OR copy_43 IS DISTINCT FROM hitidlow \
                 OR copy_page IS DISTINCT FROM pagename OR copy_time IS DISTINCT FROM receivedtimegmt";
    assert_eq!(world.count(wrong).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_with_new_columns_is_refused_unless_the_configuration_lets_them_be_added() {
    let world = first_schema().await;
    change_schema(&world);
    world.configure("[redshift]\n", "[redshift]\non_schema_change = \"refuse\"\n");
    let (code, said) = world.ask(&["run"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("copy_1 is not in the table; copy_2 is not in the table"), "{said}");
    assert!(adding(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_alter_the_ingester_says_so_and_nothing_is_lost() {
    let world = first_schema().await;
    change_schema(&world);
    add_columns(&world);
    let owner = async |name: &str| {
        let sql = format!("ALTER TABLE public.livestream OWNER TO {name}");
        world.judge.batch_execute(&sql).await.unwrap();
    };
    owner("rdsdb").await;
    let (code, said) = world.ask(&["check"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("✗ Redshift new columns: "), "{said}");
    assert!(said.contains("must be owner of relation livestream: let redshift.user own the table"), "{said}");
    assert!(said.contains("✓ Redshift table: ") && said.contains("✓ Redshift COPY: "), "{said}");

    world.publish().await;
    let mut ingester = world.start("ingester");
    let told = async || ingester.said().contains("must be owner of relation livestream");
    world.until("the right is asked for", &mut [], told).await;
    let said = ingester.said();
    assert!(said.contains("loading is held up: adding columns to"), "{said}");
    assert!(world.dump().contains("must be owner of relation livestream"), "{}", world.dump());
    assert_eq!((world.loaded().await, new_columns(&world).await), (0, 0));

    owner(sandbox::standins::USER).await;
    let (code, said) = world.ask(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("✓ Redshift new columns: the ingester adds copy_1 decimal(20,0), "), "{said}");
    assert!(said.contains(" and 35 more: redshift.user owns the table"), "{said}");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
    let (code, said) = world.ask(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("✓ Redshift new columns: none; those of a later schema may be added"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_the_table_in_an_open_transaction_is_named_and_the_columns_come_behind_them() {
    let world = first_schema().await;
    change_schema(&world);
    add_columns(&world);
    world.configure("[redshift]\n", "[redshift]\nlock_timeout = \"1s\"\n");
    world.configure("retry_max = \"10s\"", "retry_max = \"1s\"");
    world.publish().await;
    let reader = world.person().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM public.livestream").await.unwrap();
    let mut ingester = world.start("ingester");
    let told = async || ingester.said().contains("holds livestream since 20");
    world.until("the reader is named", &mut [], told).await;
    let said = ingester.said();
    assert!(said.contains("could not be locked within 1s (redshift.lock_timeout): session "), "{said}");
    assert_eq!(new_columns(&world).await, 0);
    reader.batch_execute("SELECT count(*) FROM public.livestream; COMMIT").await.unwrap();
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
    assert_eq!(new_columns(&world).await, NEW);
}

fn apply(world: &World, args: &[&str]) -> Command {
    service::command("ingester", &[&["ddl", "--apply"], args].concat(), &world.config).unwrap()
}

/// Carries out what is left: its code, and what it said.
fn applied(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = apply(world, args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_apply_does_what_ddl_diff_prints_and_is_repeated_wherever_it_was_cut() {
    let world = first_schema().await;
    send(
        &world,
        "ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(10);
         ALTER TABLE public.livestream ADD COLUMN own date;
         ALTER TABLE public.livestream_ledger DROP COLUMN rejected;",
    )
    .await;
    change_schema(&world);
    let faults = world.standins.redshift.faults();
    faults.forget_statements();
    let (code, said) = applied(&world, &[]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("Send 47 statements to Redshift? Nobody can be asked here: give --yes"), "{said}");
    assert!(adding(&world).is_empty());

    // Killed at its thirteenth column, which is there: each statement is a transaction of its own.
    faults.push_at(13, "ADD COLUMN \"copy_", killed(Kind::Ddl, true, None));
    let mut child = apply(&world, &["--yes"]).stdout(Stdio::null()).spawn().unwrap();
    tokio::time::timeout(PATIENCE, faults.until_held()).await.expect("it never came there");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(new_columns(&world).await, 13);

    faults.push_at(10, "ADD COLUMN \"copy_", Fault::AppliedThenLost(Kind::Ddl));
    let (code, said) = applied(&world, &["--yes"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("was sent and not answered; the same command asks the catalog"), "{said}");
    assert_eq!(new_columns(&world).await, 23);

    world.judge.batch_execute("ALTER TABLE public.livestream OWNER TO rdsdb").await.unwrap();
    let (code, said) = applied(&world, &["--yes"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("must be owner of relation livestream: let redshift.user own"), "{said}");
    let own = format!("ALTER TABLE public.livestream OWNER TO {}", sandbox::standins::USER);
    world.judge.batch_execute(&own).await.unwrap();

    let (code, said) = applied(&world, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("done in ") && said.contains(": ALTER TABLE \"public\".\"livestream\" ADD COLUMN"),
        "{said}"
    );
    assert_eq!(new_columns(&world).await, NEW);
    let widened = "count(*) FROM standin.columns WHERE column_name = 'evar1' AND redshift_type LIKE '%(255)'";
    assert_eq!(world.count(widened).await, 1);
    world.judge.query(&format!("SELECT rejected FROM {LEDGER}"), &[]).await.unwrap();
    // Nobody's column is dropped.
    world.judge.query("SELECT own FROM public.livestream", &[]).await.unwrap();
    faults.forget_statements();
    let (code, said) = applied(&world, &[]);
    assert_eq!(code, Some(0), "nothing is left to ask about: {said}");
    assert!(faults.statements().iter().all(|seen| seen.kind != Kind::Ddl));

    // What no statement mends is an operator's to decide.
    send(
        &world,
        "ALTER TABLE public.livestream DROP COLUMN copy_time; ALTER TABLE public.livestream ADD COLUMN copy_time integer;",
    )
    .await;
    let (code, said) = applied(&world, &["--yes"]);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("copy_time is integer in the table and not timestamp"), "{said}");

    send(&world, "DROP TABLE public.livestream;").await;
    let (code, said) = applied(&world, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);

    // The ledger speaks of that table: another one is somebody else's, and is not even made.
    faults.forget_statements();
    world.configure("[redshift]\n", "[redshift]\ntable = \"public.other\"\n");
    let (code, said) = applied(&world, &["--yes"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("speaks of the table public.livestream, redshift.table is public.other"), "{said}");
    assert!(faults.statements().iter().all(|seen| seen.kind != Kind::Ddl));
}
