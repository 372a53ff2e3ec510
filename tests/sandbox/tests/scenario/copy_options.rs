//! Options of COPY that a site may add.

use redshift::Kind;
use sandbox::config::Shape;
use sandbox::service;

use crate::world::{World, assert_clean};

#[tokio::test(flavor = "multi_thread")]
async fn an_option_of_copy_that_would_leave_rows_out_ends_every_start() {
    let world = World::new(10, &Shape::default()).await;
    let good = std::fs::read_to_string(&world.config).unwrap();
    let with = |options: &str| {
        let text = good.replace("[redshift]", &format!("[redshift]\ncopy_options = {options}"));
        std::fs::write(&world.config, text).unwrap();
    };
    with(r#"["TRUNCATECOLUMNS", "MAXERROR 5"]"#);
    for command in ["run", "check", "ddl"] {
        let ended = service::run("ingester", &[command], &world.config).unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(78), "{said}");
        assert!(said.contains("redshift.copy_options: \"MAXERROR 5\": it leaves rows out"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_copy_reach_redshift_and_those_that_alter_values_alter_nothing_else() {
    for (options, sent, alters) in [
        (
            r#"["ACCEPTINVCHARS '^'", "ROUNDEC", "TRUNCATECOLUMNS", "STATUPDATE ON", "COMPUPDATE PRESET"]"#,
            "ACCEPTINVCHARS '^' COMPUPDATE PRESET ROUNDEC STATUPDATE ON TRUNCATECOLUMNS",
            false,
        ),
        (r#"["BLANKSASNULL", "TRIMBLANKS"]"#, "BLANKSASNULL COMPUPDATE OFF STATUPDATE OFF TRIMBLANKS", true),
    ] {
        let world = World::new(300, &Shape::default()).await;
        world.configure("[redshift]", &format!("[redshift]\ncopy_options = {options}"));
        let (producer, ingester) = (world.start("producer"), world.start("ingester"));
        let verdict = world.finish(producer, ingester).await;
        if alters {
            // What docs/OPERATIONS.md warns of: the rows are all there, and some values are not as they were sent.
            assert_eq!(
                (verdict.lost, verdict.doubled, verdict.loaded),
                (0, 0, world.wanted()),
                "{verdict:#?}"
            );
            assert!(!verdict.complaints.is_empty(), "{verdict:#?}");
            assert!(verdict.complaints.iter().all(|one| one.starts_with("an altered value")), "{verdict:#?}");
        } else {
            assert_clean(&verdict);
        }
        let statements = world.standins.redshift.faults().statements();
        let copies: Vec<_> = statements.into_iter().filter(|seen| seen.kind == Kind::Copy).collect();
        assert!(!copies.is_empty() && copies.iter().all(|copy| copy.sql.ends_with(sent)), "{copies:?}");
    }
}
