//! Which rows the tables of load errors are about. Pure.

use std::collections::BTreeMap;

use crate::redshift::load_errors::{FILE_BYTES, Report};

/// What `line_number` counts: it is not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    Lines,
    Rows,
}

/// The reports about these objects, each with the number of its file. `urls` are those of the objects.
pub(super) fn attribute(reports: Vec<Report>, urls: &[(usize, String)]) -> Vec<(usize, Report)> {
    let mut names = BTreeMap::<&str, Vec<usize>>::new();
    for (file, url) in urls {
        names.entry(cut(url)).or_default().push(*file);
    }
    let of = |report: Report| match names.get(cut(&report.file)).map(Vec::as_slice) {
        Some([file]) => Some((*file, report)),
        // Two names that are cut to the same one do not tell which file it is.
        _ => None,
    };
    reports.into_iter().filter_map(of).collect()
}

/// As the tables of load errors keep the name of a file.
fn cut(url: &str) -> &str {
    url.get(..url.floor_char_boundary(FILE_BYTES)).unwrap_or(url).trim_end()
}

/// The row of a reported line, from 0: if lines are counted, and if rows are. `ends` holds the last line of each row.
pub(super) fn located(ends: &[u64], line: u64) -> (Option<usize>, Option<usize>) {
    let within = |row: usize| Some(row).filter(|row| *row < ends.len());
    let by_row = usize::try_from(line).ok().and_then(|line| line.checked_sub(1)).and_then(within);
    let by_line = if line == 0 { None } else { within(ends.partition_point(|end| *end < line)) };
    (by_line, by_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(file: &str) -> Report {
        Report { file: file.to_owned(), line: 1, column: None, code: None, reason: String::new() }
    }

    #[test]
    fn a_report_is_attributed_to_a_file_even_by_a_name_that_is_cut() {
        let long = format!("s3://b/{}", "x".repeat(FILE_BYTES));
        let urls = [(3, format!("{long}/3.csv")), (5, "s3://b/5.csv".to_owned())];
        let reports =
            vec![report(&long[..FILE_BYTES]), report("s3://b/5.csv"), report("s3://b/elsewhere.csv")];
        let files = |urls: &[_]| {
            attribute(reports.clone(), urls).into_iter().map(|(file, _)| file).collect::<Vec<_>>()
        };
        assert_eq!(files(&urls), [3, 5]);
        let alike = [urls.to_vec(), vec![(4, format!("{long}/4.csv"))]].concat();
        assert_eq!(files(&alike), [5], "it may be either of two files");
    }

    #[test]
    fn a_reported_line_is_found_whichever_way_it_was_counted() {
        let ends = [1, 4, 5, 7];
        let found: Vec<_> = (0..9).map(|line| located(&ends, line)).collect();
        let at = |line, row| (line, row);
        assert_eq!(
            found,
            [
                at(None, None),
                at(Some(0), Some(0)),
                at(Some(1), Some(1)),
                at(Some(1), Some(2)),
                at(Some(1), Some(3)),
                at(Some(2), None),
                at(Some(3), None),
                at(Some(3), None),
                at(None, None),
            ]
        );
    }
}
