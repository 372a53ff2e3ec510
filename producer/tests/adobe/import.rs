//! `producer import-config`: the daemon's files in, a configuration that loads out, and no secret shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use adobe::{ORGANIZATION, PRIVATE_KEY, TECHNICAL_ACCOUNT};
use producer::import;
use serde_json::{Value, json};
use shared::config::{Auth, Config, Reset, Secrets};
use shared::exit::{Exit, Failure};
use shared::ids::Instance;

fn admin() -> Value {
    json!({
        "org_id": ORGANIZATION, "api_key": "the-client", "tech_id": TECHNICAL_ACCOUNT, "secret": "hunter2-adobe",
        "pathToKey": "data/pkey.key", "livestreamEndpoint": "https://livestream.adobe.net/api/1/stream/",
        "tokenEndpoint": "https://ims-na1.adobelogin.com/ims/exchange/jwt/", "AdobeStreamEndpoint": "my-endpoint",
    })
}

fn parameters() -> Value {
    json!({
        "maxConnections": 2, "reset": "largest", "smoothing": 1, "smoothingBucketSize": 600, "BATCH_RECORDS": 2000,
        "BATCH_FILES": 5, "copy_command_approach": "multiple files", "S3_base_path": "ToIngest/",
        "S3_bucket_name": "the-bucket", "S3_region_name": "eu-west-1",
        "Redshift_staging_table_name": "adobe_ls.stg", "Redshift_columns": "a,b,c", "Redshift_dbname": "the-db",
        "Redshift_host": "the-host.example", "Redshift_port": "5440", "Redshift_user": "the-user",
        "Redshift_password": "hunter2-redshift", "IAM_Role": "arn:aws:iam::123456789012:role/the-role",
    })
}

/// The daemon's folder.
fn daemon(admin: &Value, parameters: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("config_admin.json"), admin.to_string()).unwrap();
    fs::write(data.join("producer_parameters.json"), parameters.to_string()).unwrap();
    fs::write(data.join("pkey.key"), PRIVATE_KEY).unwrap();
    dir
}

/// What is printed, and the notes.
fn imported(dir: &Path, output: Option<&Path>) -> Result<(String, String), Failure> {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    import(dir, &Instance::try_from("web-7".to_owned()).unwrap(), output, &mut out, &mut notes)?;
    let (out, notes) = (String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap());
    assert!(!format!("{out}{notes}").contains("hunter2") && !out.contains("PRIVATE KEY"), "{out}{notes}");
    Ok((out, notes))
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("imported"), std::iter::empty(), Secrets::Producer).unwrap()
}

#[test]
fn every_key_of_the_daemon_finds_its_place_or_is_named() {
    let dir = daemon(&admin(), &parameters());
    let (text, notes) = imported(dir.path(), None).unwrap();
    let config = parse(&text);
    assert_eq!(config.instance.name.to_string(), "web-7");
    let adobe = &config.adobe;
    assert_eq!((adobe.auth, adobe.token_url.as_str()), (Auth::Jwt, Auth::Jwt.token_url()));
    assert_eq!(adobe.client_id, "the-client");
    assert_eq!(adobe.client_secret_file, Path::new("/etc/livestream/client_secret"));
    assert_eq!(
        (adobe.jwt_organization.as_str(), adobe.jwt_technical_account.as_str()),
        (ORGANIZATION, TECHNICAL_ACCOUNT)
    );
    assert_eq!(adobe.jwt_key_file, Path::new("/etc/livestream/technical_account.pem"));
    assert_eq!(adobe.stream_url, "https://livestream.adobe.net/api/1/stream/my-endpoint");
    assert_eq!(adobe.redirect_hosts, ["*.adobe.net"]);
    assert_eq!((adobe.max_connections, adobe.connections, adobe.reset), (2, 1, Reset::Largest));
    assert_eq!((adobe.smoothing, adobe.smoothing_bucket_size), (true, 600));
    assert_eq!((config.batch.records_per_file, config.batch.files_per_batch), (2_000, 5));
    assert_eq!((config.s3.bucket.as_str(), config.s3.region.as_str()), ("the-bucket", "eu-west-1"));
    assert_eq!(config.s3.to_ingest, "ToIngest/");
    let redshift = &config.redshift;
    assert_eq!((redshift.host.as_str(), redshift.port), ("the-host.example", 5_440));
    assert_eq!((redshift.database.as_str(), redshift.user.as_str()), ("the-db", "the-user"));
    assert_eq!(
        (redshift.table.unquoted(), redshift.ledger.unquoted()),
        ("adobe_ls.stg".to_owned(), "adobe_ls.livestream_ledger".to_owned())
    );
    assert_eq!(redshift.iam_role, "arn:aws:iam::123456789012:role/the-role");
    for expected in [
        "Redshift_columns has no counterpart",
        "copy_command_approach has no counterpart",
        "Adobe ended service accounts",
        "to do: put `secret` of config_admin.json into /etc/livestream/client_secret",
        "to do: put `Redshift_password`",
    ] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
}

#[test]
fn secrets_go_to_files_of_their_own_and_the_whole_loads() {
    let dir = daemon(&admin(), &parameters());
    let to = tempfile::tempdir().unwrap();
    let output = to.path().join("pipeline.toml");
    let (printed, notes) = imported(dir.path(), Some(&output)).unwrap();
    assert_eq!(printed, "");
    assert!(notes.contains("wrote") && notes.contains("producer check --config"), "{notes}");
    let config = Config::load(&output, Secrets::Producer).unwrap();
    assert_eq!(config.adobe.client_secret.reveal(), "hunter2-adobe");
    assert_eq!(config.adobe.jwt_key.reveal(), PRIVATE_KEY.trim_end());
    let config = Config::load(&output, Secrets::Ingester).unwrap();
    assert_eq!(config.redshift.password.reveal(), "hunter2-redshift");
    for name in ["pipeline.toml", "client_secret", "technical_account.pem", "redshift_password"] {
        let mode = fs::metadata(to.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(!fs::read_to_string(&output).unwrap().contains("hunter2"));
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written() {
    let dir = daemon(&admin(), &parameters());
    for there in ["pipeline.toml", "client_secret", "redshift_password", "technical_account.pem"] {
        let to = tempfile::tempdir().unwrap();
        fs::write(to.path().join(there), "mine").unwrap();
        let failure = imported(dir.path(), Some(&to.path().join("pipeline.toml"))).unwrap_err();
        assert!(failure.to_string().contains("nothing is overwritten"), "{failure}");
        assert_eq!(fs::read_to_string(to.path().join(there)).unwrap(), "mine");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1, "{there}");
    }
}

#[test]
fn a_daemon_with_less_or_other_than_usual_is_imported_too() {
    let (mut admin, mut parameters) = (admin(), parameters());
    admin["tokenEndpoint"] = "https://ims-na1.adobelogin.com/ims/token/v3".into();
    admin["livestreamEndpoint"] = "https://proxy.example/".into();
    admin["proxy"] = "x".into();
    parameters["smoothing"] = 0.into();
    parameters["S3_base_path"] = "in".into();
    parameters["colour"] = "blue".into();
    parameters.as_object_mut().unwrap().remove("reset");
    let dir = daemon(&admin, &parameters);
    fs::remove_file(dir.path().join("data/pkey.key")).unwrap();
    // The folder `data` itself may be named too.
    let (text, notes) = imported(&dir.path().join("data"), None).unwrap();
    let config = parse(&text);
    assert_eq!(
        (config.adobe.auth, config.adobe.reset, config.adobe.smoothing),
        (Auth::Oauth, Reset::Smallest, false)
    );
    assert_eq!(config.adobe.redirect_hosts, ["*.adobe.net", "proxy.example"]);
    assert_eq!(config.s3.to_ingest, "in/");
    assert!(notes.contains("config_admin.json: proxy is no key of the daemon's"), "{notes}");
    assert!(notes.contains("producer_parameters.json: colour is no key of the daemon's"), "{notes}");
}

#[test]
fn what_is_missing_or_cannot_be_is_told_by_file_and_key() {
    let empty = tempfile::tempdir().unwrap();
    let failure = imported(empty.path(), None).unwrap_err();
    assert_eq!(failure.exit(), Exit::NoInput);
    assert!(failure.to_string().contains("config_admin.json"), "{failure}");
    let mut odd = parameters();
    odd["BATCH_FILES"] = "many".into();
    odd["maxConnections"] = 9.into();
    let dir = daemon(&admin(), &odd);
    let failure = imported(dir.path(), None).unwrap_err();
    assert_eq!(failure.exit(), Exit::Config);
    let told = failure.to_string();
    for expected in [
        "producer_parameters.json: BATCH_FILES: must be an integer, not a string (batch.files_per_batch)",
        "correct them there",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    fs::write(dir.path().join("data/config_admin.json"), "{\"secret\": hunter2}").unwrap();
    let failure = imported(dir.path(), None).unwrap_err();
    assert!(failure.to_string().contains("not a JSON object (line 1"), "{failure}");
    assert!(!failure.to_string().contains("hunter2"), "{failure}");
}
