//! `counts` counts every way and prints a table; `counts <way> <records>` is what it runs under valgrind.

use anyhow::Context;
use counts::{WAYS, measure};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [name, records] = args.as_slice() {
        let way = WAYS.iter().find(|way| way.name == name).context("no such way")?;
        return (way.run)(records.parse()?);
    }
    let program = std::env::current_exe()?;
    println!("{:<14}{:>22}{:>10}", "", "instructions a record", "bound");
    for way in WAYS {
        println!("{:<14}{:>22}{:>10}", way.name, measure(&program, way)?, way.bound);
    }
    Ok(())
}
