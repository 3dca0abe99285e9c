"""Secret managers: where references lead to, how often they are asked, and what is served meanwhile (design 7).

`base` what a manager is to the rest, one module for each manager, `registry` the list of them, `clients` one for each
provider, `fetching` fetches under way, `cache` what is known of each reference, `needs` which row needs which of them,
`resolution` one row with its secrets, `resolver` snapshots with references in and snapshots with secrets out, `report`
what operators are told, `probing` whether a provider can be reached, for the admin; `settled` the settings as values.
"""
