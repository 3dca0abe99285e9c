"""Our etcd v3 client: one connection, its deadlines, transactions, leases, and list + watch as one operation."""
