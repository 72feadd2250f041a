//! Postgres: one file per aggregate, noun-first functions, row to domain conversions.
