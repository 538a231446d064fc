//! Real programs over our trees.
