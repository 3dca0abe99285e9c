"""Where snapshots come from: etcd with its watch, the copy on disk, and what the status pages say of both."""
