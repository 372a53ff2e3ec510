//! Tables for a terminal.

use std::io::Write;

use shared::exit::Failure;

/// The longest value shown in a table.
const SHOWN: usize = 60;

/// Widths that fit into `room`: the widest column is narrowed first, none below ten.
fn narrowed(mut widths: [usize; 5], room: usize) -> [usize; 5] {
    const LEAST: usize = 10;
    while widths.iter().sum::<usize>() + 2 * (widths.len() - 1) > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > LEAST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        cell.to_owned()
    } else {
        cell.chars().take(width - 1).chain(['…']).collect()
    }
}

/// A value on one line of a table; `--json` shows it whole.
pub(super) fn short(value: &str) -> String {
    let mut line = String::new();
    for c in value.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    cut(&line, SHOWN)
}

pub(super) fn print_table(
    out: &mut impl Write,
    head: [&str; 5],
    rows: Vec<[String; 5]>,
    room: Option<usize>,
) -> Result<(), Failure> {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let widths = room.map_or(widths, |room| narrowed(widths, room));
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{:<width$}  ", cut(cell, width)));
        writeln!(out, "{}", cells.collect::<String>().trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_room_and_cuts_the_widest_column() {
        let row = ["evar1", "a.b", &"r".repeat(60), &"s".repeat(30), ""].map(str::to_owned);
        let mut out = Vec::new();
        print_table(&mut out, ["column", "path", "raw", "stored", "rule"], vec![row], Some(80)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains(&"s".repeat(27)) && text.contains("r…"), "{text}");
    }
}
