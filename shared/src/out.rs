//! Standard output and standard error, whose reader may close the pipe, as that of `producer schema | head` does. What is
//! written after that is dropped; the program finishes its work, and ends with the same code.

use std::io::{self, ErrorKind, IsTerminal, Stderr, Stdout, Write};

/// A stream that drops what is written to it once its reader is gone.
#[derive(Debug)]
pub struct Out<W>(W);

/// Standard output.
pub fn stdout() -> Out<Stdout> {
    Out(io::stdout())
}

/// Standard error.
pub fn stderr() -> Out<Stderr> {
    Out(io::stderr())
}

/// Columns of the terminal that standard output is; None when it is none.
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    let columns = usize::from(size.ws_col);
    // A terminal that does not know its size says 0.
    Some(if columns == 0 { 80 } else { columns.max(40) })
}

/// Whether standard output shows colours: it is a terminal, and `NO_COLOR` is not set (<https://no-color.org>).
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_gone(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_gone(self.0.flush(), ())
    }
}

fn unless_gone<T>(done: io::Result<T>, as_if: T) -> io::Result<T> {
    match done {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(as_if),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_is_gone_is_no_failure() {
        let mut gone = Out(Failing(ErrorKind::BrokenPipe));
        assert!(writeln!(gone, "nobody reads this").is_ok() && gone.flush().is_ok());
        let mut full = Out(Failing(ErrorKind::StorageFull));
        assert_eq!(writeln!(full, "lost").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(full.flush().unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_pipe_without_a_reader_is_one() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut out = Out(writer);
        assert!(out.write_all(&[b'x'; 100_000]).is_ok());
    }
}
