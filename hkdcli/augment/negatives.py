"""Operations that change text and answer together, known to be right."""
