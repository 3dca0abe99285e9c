"""One file per stage, named verb_noun; each a function `async def stage(exchange)` that writes only its own fields."""
