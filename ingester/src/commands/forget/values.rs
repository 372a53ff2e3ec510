//! Reads the values that are looked for: from the command line, or a file with one a line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use shared::exit::{Exit, Failure, io_exit};
use shared::secret::Secret;

/// Values of one run at most, and their bytes: each statement names them all.
const MOST: usize = 10_000;
const MAX_BYTES: u64 = 1 << 20;
/// Redshift's longest text.
const MAX_VALUE_BYTES: usize = 65_535;

/// The values that were given. Errors name a line, never what stands on it.
pub(super) fn read(values: &[Secret], file: Option<&Path>) -> Result<Vec<String>, Failure> {
    let given = match file {
        None => values.iter().map(|value| value.reveal().to_owned()).collect(),
        Some(path) if path == Path::new("-") => lines(io::stdin().lock())?,
        Some(path) => {
            let named = |error: io::Error| {
                Failure::new(io_exit(&error), anyhow::anyhow!("cannot read {}: {error}", path.display()))
            };
            lines(File::open(path).map_err(named)?)?
        }
    };
    if given.len() > MOST {
        return Err(usage(format!("there are {} values, and a run takes {MOST}", given.len())));
    }
    // Lines of a file have none: such a value can only be meant.
    for (number, _) in given.iter().enumerate().filter(|(_, value)| value.chars().any(char::is_control)) {
        let number = number + 1;
        tracing::warn!(
            "value {number} has a control character, such as a tab or the end of a line: it is looked for with it"
        );
    }
    if let Some(number) = given.iter().position(|value| value.len() > MAX_VALUE_BYTES) {
        return Err(usage(format!("value {} has more bytes than a column ({MAX_VALUE_BYTES})", number + 1)));
    }
    Ok(given)
}

fn lines(from: impl Read) -> Result<Vec<String>, Failure> {
    let mut text = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(usage(format!("the file has more than {MAX_BYTES} bytes: give it in parts")));
    }
    // As editors on Windows write it.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    let values = lines.map(|(number, line)| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let wrong = |what: &str| usage(format!("line {} of the file {what}", number + 1));
        let text = std::str::from_utf8(line).map_err(|_| wrong("is not UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(wrong(
                "has a control character, such as a tab: give a value a line, or this one by --value",
            ));
        }
        Ok(text.to_owned())
    });
    let values: Result<Vec<String>, Failure> = values.collect();
    Ok(values?.into_iter().filter(|value| !value.trim_end_matches(' ').is_empty()).collect())
}

fn usage(why: String) -> Failure {
    Failure::new(Exit::Usage, anyhow::anyhow!(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_value_a_line_and_empty_lines_mean_nobody() {
        assert_eq!(lines(&b"jane\r\n\n  \n joe\n"[..]).unwrap(), ["jane", " joe"]);
        assert_eq!(lines(&b"\r\n jane \r\n\r\n  \r\njoe"[..]).unwrap(), [" jane ", "joe"]);
        assert_eq!(lines(&b""[..]).unwrap(), [""; 0]);
        assert_eq!(lines(&b"\xef\xbb\xbfjane\n"[..]).unwrap(), ["jane"], "with a byte order mark");
        let tab = lines(&b"joe\njane\t7\n"[..]).unwrap_err().to_string();
        assert!(tab.contains("line 2 of the file has a control character") && !tab.contains("jane"), "{tab}");
        let two_lines = [Secret::new("ja\nne\r\n"), Secret::new("ja\tne")];
        assert_eq!(read(&two_lines, None).unwrap(), ["ja\nne\r\n", "ja\tne"], "stored so, by a record");
        let wrong = lines(&b"jane\n\xff\n"[..]).unwrap_err();
        assert!(wrong.to_string().contains("line 2") && wrong.exit() == Exit::Usage, "{wrong}");
    }

    #[test]
    fn what_is_too_much_is_refused_and_not_named() {
        let many = "x\n".repeat(MAX_BYTES as usize);
        assert!(lines(many.as_bytes()).unwrap_err().to_string().contains("in parts"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("values");
        std::fs::write(&path, "x\n".repeat(MOST + 1)).unwrap();
        assert!(read(&[], Some(&path)).unwrap_err().to_string().contains("10001 values"));
        std::fs::write(&path, format!("jane\n{}\n", "y".repeat(MAX_VALUE_BYTES + 1))).unwrap();
        let long = read(&[], Some(&path)).unwrap_err().to_string();
        assert!(long.contains("value 2") && !long.contains("yy"), "{long}");
        assert_eq!(read(&[], Some(&dir.path().join("none"))).unwrap_err().exit(), Exit::Io);
        assert_eq!(read(&[Secret::new("a")], None).unwrap(), ["a"]);
    }
}
