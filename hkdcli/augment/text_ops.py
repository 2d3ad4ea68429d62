"""Operations on the text around what is judged."""
