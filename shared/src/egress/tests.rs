use hyper::Uri;

use super::environment::ENDPOINTS;
use super::*;
use crate::exit::Exit;

fn of(env: &[(&str, &str)]) -> Result<Egress, (&'static str, String)> {
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Egress::of(&env)
}

#[test]
fn https_goes_through_the_proxy_and_this_machine_and_the_metadata_of_aws_never_do() {
    let egress = of(&[
        ("https_proxy", "http://user:hunter2@proxy.example:3128"),
        ("no_proxy", "corp.example, 10.0.0.0/8, *.internal"),
    ]);
    let egress = egress.unwrap();
    for proxied in
        ["https://s3.eu-central-1.amazonaws.com/b/k", "https://livestream.adobe.net", "https://11.0.0.1"]
    {
        assert_eq!(egress.way_to(proxied), "through http://proxy.example:3128 (https_proxy)", "{proxied}");
    }
    for direct in [
        "https://s3.corp.example",
        "https://10.1.2.3",
        "https://s3.internal",
        "http://127.0.0.1:9000",
        "https://localhost:1",
        "https://127.1.2.3",
        "https://[::1]:1",
        "http://169.254.169.254/latest",
        "http://[fd00:ec2::254]/latest",
        "http://169.254.170.2/v2",
        "https://169.254.170.23/v1",
        "http://[fd00:ec2::23]/v1",
    ] {
        assert!(
            egress.way_to(direct).starts_with("directly, not through http://proxy.example:3128"),
            "{direct}"
        );
    }
    assert!(!format!("{egress:?}").contains("hunter2"), "{egress:?}");
}

#[test]
fn of_several_variables_the_nearest_counts_and_an_empty_one_is_not_set() {
    let way = |env: &[(&str, &str)]| of(env).unwrap().way_to("https://x.example");
    assert_eq!(way(&[]), "directly");
    assert_eq!(way(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:1")]), "through http://a:1 (HTTPS_PROXY)");
    assert_eq!(way(&[("HTTPS_PROXY", " "), ("ALL_PROXY", "https://c:1")]), "through https://c:1 (ALL_PROXY)");
    assert!(way(&[("HTTP_PROXY", "a:1")]).contains("set HTTPS_PROXY"));
    assert!(way(&[("HTTPS_PROXY", "a:1"), ("NO_PROXY", "*")]).starts_with("directly, not through"));
}

#[test]
fn what_is_no_proxy_is_refused_by_its_variable_without_its_password() {
    for (value, why) in [
        ("socks5://user:hunter2@p:1080", "only http:// and https://"),
        ("http://user:hunter2@p:99999", "no address of a proxy"),
        ("http://", "no address of a proxy"),
        ("http://user:12/hunter2@p:3128", "behind the host"),
        ("http://user@p:3128?hunter2", "behind the host"),
    ] {
        let (variable, said) = of(&[("HTTPS_PROXY", value)]).unwrap_err();
        assert_eq!(variable, "HTTPS_PROXY");
        assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn authorities_that_are_named_and_not_there_are_an_error_of_configuration() {
    let mut egress = of(&[("SSL_CERT_FILE", "/nowhere/ca.pem")]).unwrap();
    assert_eq!(egress.trusted(), "those of SSL_CERT_FILE /nowhere/ca.pem");
    let failure = egress.read_authorities().unwrap_err();
    assert_eq!(failure.exit(), Exit::Config);
    assert!(failure.to_string().contains("SSL_CERT_FILE /nowhere/ca.pem"), "{failure}");
    let mut system = of(&[]).unwrap();
    system.read_authorities().unwrap();
    assert!(system.certificates().is_none());
}

#[test]
fn a_password_with_odd_characters_still_goes_through_the_proxy() {
    use base64::Engine;

    for password in ["a^b", "a{b}", "a|b", "a\"b", "a<b>", "a`b", "a b", "pässwort", "100%", "a%5Eb", "@:@"]
    {
        let egress = of(&[("HTTPS_PROXY", &format!("http://user:{password}@p.example:3128"))]).unwrap();
        let way = egress.way_to("https://s3.example");
        assert_eq!(way, "through http://p.example:3128 (HTTPS_PROXY)", "{password}");
        assert!(egress.proxy_of_aws().is_some(), "{password}");
        let proxy = egress.proxy.as_ref().unwrap();
        let through = proxy.matcher.intercept(&Uri::from_static("https://s3.example")).unwrap();
        let sent = through.basic_auth().unwrap().to_str().unwrap().to_owned();
        let sent = base64::engine::general_purpose::STANDARD.decode(&sent["Basic ".len()..]).unwrap();
        let meant = password.replace("%5E", "^");
        assert_eq!(String::from_utf8(sent).unwrap(), format!("user:{meant}"));
        assert!(!format!("{egress:?}").contains(password), "{egress:?}");
    }
}

#[test]
fn an_address_that_the_sdk_would_take_from_the_environment_is_refused() {
    for (variable, instead) in ENDPOINTS {
        for value in ["http://10.0.0.1:9000", "https://elsewhere.example"] {
            let (named, said) = of(&[(variable, value)]).unwrap_err();
            assert_eq!(named, variable);
            assert!(said.contains("must not be set") && said.contains(instead), "{said}");
        }
        of(&[(variable, " ")]).unwrap();
    }
}

#[test]
fn plain_http_stays_on_this_machine_and_its_link() {
    for near in ["http://localhost:9", "http://127.0.0.1:9", "http://[::1]:9", "http://169.254.169.254/x"] {
        assert!(may_be_plain(&Uri::from_static(near)), "{near}");
    }
    for far in ["http://10.0.0.1", "http://s3.example", "http://169.254.1.1", "http://[fd00::1]"] {
        assert!(!may_be_plain(&Uri::from_static(far)), "{far}");
    }
}

#[test]
fn a_variable_without_effect_is_told_of() {
    let proxy = ("HTTPS_PROXY", "p:1");
    let warned = |env: &[(&str, &str)]| of(env).unwrap().warnings().join("\n");
    let said = warned(&[proxy, ("no_proxy", "a.example,10.*,http://b")]);
    assert!(said.starts_with("no_proxy: no host fits \"10.*\", \"http://b\": "), "{said}");
    assert_eq!(warned(&[proxy, ("NO_PROXY", "a.example:443 [::1]:9000")]), "");
    assert_eq!(warned(&[("NO_PROXY", "10.*")]), "", "there is no proxy to except it from");
    let ca = ("AWS_CA_BUNDLE", "/etc/ca.pem");
    assert!(warned(&[ca]).contains("SSL_CERT_FILE"));
    assert_eq!(warned(&[ca, ("SSL_CERT_FILE", "/etc/ca.pem")]), "");
    let report = of(&[ca]).unwrap().report([("S3", "https://b.s3.example/".to_owned())]);
    assert!(report.starts_with("S3 (b.s3.example) directly; trusting the system's"), "{report}");
    assert!(report.ends_with("name its file in SSL_CERT_FILE"), "{report}");
    let egress = of(&[proxy, ("NO_PROXY", "s3.corp.example:443 t.corp.example")]).unwrap();
    for direct in ["https://s3.corp.example", "https://t.corp.example"] {
        assert!(egress.way_to(direct).starts_with("directly, not through"), "{direct}");
    }
}
