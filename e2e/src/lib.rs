//! Nothing: whole-system tests live in `tests/it`.
