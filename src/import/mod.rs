//! (being written)

pub mod tar;
