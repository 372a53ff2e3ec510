//! The systemd units say what the programs do: the plain ones and the templates alike.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use house::workspace;

const SERVICES: [&str; 2] = ["producer", "ingester"];

fn unit(name: &str) -> String {
    fs::read_to_string(workspace().join("deploy/systemd").join(name)).unwrap()
}

/// The values of a key, in order.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The default of a key of the configuration, as docs/CONFIGURATION.md has it.
fn default_of(key: &str) -> String {
    let page = fs::read_to_string(workspace().join("docs/CONFIGURATION.md")).unwrap();
    let row =
        page.lines().find(|line| line.starts_with(&format!("| `{key}`"))).unwrap_or_else(|| panic!("{key}"));
    row.split('"').nth(1).unwrap_or_else(|| panic!("{row}")).to_owned()
}

#[test]
fn a_template_is_the_plain_unit_with_the_name_of_the_instance_in_every_path() {
    for service in SERVICES {
        let template = unit(&format!("livestream-{service}@.service"));
        let plain: Vec<String> = template
            .lines()
            .filter(|line| *line != "EnvironmentFile=-/etc/livestream/%i.environment")
            .map(|line| {
                line.replace("livestream/%i.toml", "livestream/pipeline.toml")
                    .replace("/%i", "")
                    .replace(" %i", "")
            })
            .collect();
        assert_eq!(plain, unit(&format!("livestream-{service}.service")).lines().collect::<Vec<_>>());
        // Unescaped it would make a slash of each dash.
        assert!(!template.contains("%I"), "{template}");
    }
}

#[test]
fn the_directories_of_the_plain_units_are_the_defaults_of_the_configuration() {
    for (service, key) in [("producer", "log.dir"), ("ingester", "ingester.dir")] {
        let unit = unit(&format!("livestream-{service}.service"));
        assert_eq!(values(&unit, "StateDirectory"), [default_of(key).strip_prefix("/var/lib/").unwrap()]);
        assert_eq!(values(&unit, "StateDirectoryMode"), ["0700"]);
        assert_eq!(values(&unit, "LogsDirectory"), ["livestream"]);
        let start = format!("/usr/bin/{service} run --config /etc/livestream/pipeline.toml");
        assert_eq!(values(&unit, "ExecStart"), [start.as_str()]);
    }
}

#[test]
fn a_unit_waits_for_ready_watches_and_does_not_repeat_what_an_operator_must_mend() {
    let codes = fs::read_to_string(workspace().join("docs/OPERATIONS.md")).unwrap();
    for service in SERVICES {
        let unit = unit(&format!("livestream-{service}.service"));
        assert_eq!(values(&unit, "Type"), ["notify"]);
        assert_eq!(values(&unit, "WatchdogSec"), ["3min"]);
        assert_eq!(values(&unit, "Restart"), ["on-failure"]);
        assert_eq!(values(&unit, "ExecReload"), ["/bin/kill -HUP $MAINPID"]);
        let kept: Vec<_> = values(&unit, "RestartPreventExitStatus")[0].split(' ').collect();
        assert_eq!(kept, ["64", "65", "77", "78"]);
        let said = "exit codes 64, 65, 77 and 78";
        assert!(codes.contains(said), "docs/OPERATIONS.md does not say: {said}");
    }
}
