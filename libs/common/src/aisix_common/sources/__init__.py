"""Where snapshots come from: etcd with its watch, the copy on disk, or a file; and what the status pages say of it."""
