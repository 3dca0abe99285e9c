"""What a proxy does in managed mode only: usage events on their way to the Cloud, and the Cloud's word on budgets.

Both go through etcd, where the cloud agent takes them up: nothing here knows the Cloud, its address or a credential.

    usage_journal     every usage event, on disk before its exchange is over; `usage_stream` is what lies there
    usage_shipping    from the journals to the outbox (`stream_shipping`), also those of processes that are gone;
                      `usage_bounds` is how much may wait meanwhile
    usage_metrics     what is told of both
    budgets           the Cloud's decisions, and the wait for the first one; `decisions` is their age, `asking` tells
                      which keys are in use, `budget_metrics` are their numbers
    held              configuration is handed on in whole revisions of the Cloud
    parts             all of it, made together
"""
