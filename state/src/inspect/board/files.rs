//! The files of the page, which stand in the program: it needs nothing from elsewhere and no build of its own.

use std::sync::LazyLock;

use shared::admin::File;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

static FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/page/main.js", SCRIPT, include_str!("page/main.js")),
    ("/page/text.js", SCRIPT, include_str!("page/text.js")),
    ("/page/flow.js", SCRIPT, include_str!("page/flow.js")),
    ("/page/alerts.js", SCRIPT, include_str!("page/alerts.js")),
    ("/page/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/page/batches.js", SCRIPT, include_str!("page/batches.js")),
    ("/page/batch.js", SCRIPT, include_str!("page/batch.js")),
    ("/page/counts.js", SCRIPT, include_str!("page/counts.js")),
];

const LOGIN: &str = include_str!("page/login.html");
static LOGIN_AGAIN: LazyLock<String> = LazyLock::new(|| LOGIN.replace(" hidden", ""));

pub(super) fn file(path: &str) -> Option<File> {
    let found = FILES.iter().find(|(its, ..)| *its == path);
    found.map(|&(_, kind, content)| File { kind, content })
}

pub(super) fn login(was_wrong: bool) -> File {
    File { kind: HTML, content: if was_wrong { LOGIN_AGAIN.as_str() } else { LOGIN } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_only_files_that_are_there_and_asks_nobody_else() {
        for (path, _, content) in FILES.iter().chain([&("/login", HTML, LOGIN)]) {
            let named = content
                .split(['"', '\''])
                .filter(|word| word.starts_with("/page/") || word.starts_with("./"));
            for name in named {
                let name = name.replace("./", "/page/");
                assert!(file(&name).is_some(), "{path} names {name}");
            }
            // Names of SVG are no requests.
            let elsewhere = content.replace("http://www.w3.org/", "");
            assert!(!elsewhere.contains("http://") && !elsewhere.contains("//fonts"), "{path}");
        }
    }

    #[test]
    fn nothing_of_the_page_is_forbidden_by_its_own_policy() {
        for (path, kind, content) in &FILES {
            assert!(!content.contains("innerHTML"), "{path}: text of others would become markup");
            if *kind == HTML {
                assert!(!content.contains(" style=") && !content.contains(" onclick="), "{path}");
            }
        }
    }

    #[test]
    fn the_form_says_that_a_token_was_wrong_only_if_one_was() {
        assert!(login(false).content.contains(" hidden"));
        assert!(!login(true).content.contains(" hidden") && login(true).content.contains("is wrong"));
    }
}
