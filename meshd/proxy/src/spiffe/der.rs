//! A small reader of DER (X.690): definite lengths, no recursion, no panic.
