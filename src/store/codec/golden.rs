//! Golden bytes of every record kind.
