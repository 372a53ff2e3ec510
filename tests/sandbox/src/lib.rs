//! The sandbox: stand-ins for Adobe, S3 and Redshift that speak the real protocols, the real binaries run against
//! them, and a judge that looks from outside, by hit id, at what was sent and what stands in the table.

pub mod cli;
pub mod config;
mod cost;
mod demo;
pub mod iam;
pub mod judge;
pub mod network;
pub mod s3;
pub mod service;
pub mod standins;
pub mod webhook;
