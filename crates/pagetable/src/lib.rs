//! pagetable
