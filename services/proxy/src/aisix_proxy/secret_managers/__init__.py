"""Secret managers: where references lead to, how often they are asked, and what is served meanwhile (design 7).

`base` what a manager is to the rest, one module for each manager, `registry` the list of them, `cache` what is known of
each reference, `resolver` snapshots with references in, snapshots with secrets out, `probing` whether a provider can be
reached, for the admin.
"""
