//! What every implementation of `Blobs` and `Catalog` owes: one suite, run against each of them.
