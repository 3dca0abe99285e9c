"""What the services of a managed gateway tell each other through etcd, under the run root (design 9). Pure values.

projection                       how far the Cloud's configuration was projected (`projected`); agent -> proxies
agent/epoch                      who may write; the agent that leads
outbox/<stream>/<number>         batches of usage events (`outbox`); proxies -> agent
budgets/asked/<shard>/<instance> caller keys in use (`budgets`); proxies -> agent
budgets/decided/<shard>          what the Cloud said of them (`budgets`); agent -> proxies
"""
