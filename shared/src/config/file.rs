//! The option that names the configuration file, the same in all programs.

use std::path::PathBuf;

/// `--config`, before or behind the command.
#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// Read the configuration from FILE; all programs share it.
    #[arg(
        long = "config",
        global = true,
        value_name = "FILE",
        env = "LIVESTREAM_CONFIG",
        default_value = "/etc/livestream/pipeline.toml"
    )]
    pub path: PathBuf,
}
