"""How a face speaks and feels by rule: visemes, coarticulation, closures, expressions and life between the words."""
